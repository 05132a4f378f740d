// Where memory lies and work runs: the value, the contract, the table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "memory/stream.h"

namespace pyruntime {

enum class DeviceKind : uint8_t { kCpu = 0, kSimulated = 1, kCuda = 2 };

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int16_t index = 0;

  // "cpu", "simulated:0", "cuda:1". Throws InvalidInput on anything else;
  // an index left out is 0.
  static Device parse(std::string_view text);
  std::string name() const;

  friend bool operator==(const Device&, const Device&) = default;
};

// One device. Lives as long as the process.
//
// Threads: all calls from any.
class DeviceBackend {
 public:
  virtual ~DeviceBackend() = default;

  virtual Device device() const = 0;

  // Whether the host may read and write what allocate() returns.
  virtual bool is_host_accessible() const = 0;

  // Memory that the device computes on, aligned to 256 bytes. Throws
  // Overloaded, naming device, size and what is in use, when there is none.
  virtual void* allocate(std::size_t size_bytes) = 0;
  virtual void free(void* address, std::size_t size_bytes) noexcept = 0;

  // Host memory that the device copies from and to without staging
  // (page-locked where the device wants it). Aligned and throwing as above.
  virtual void* allocate_host(std::size_t size_bytes) = 0;
  virtual void free_host(void* address, std::size_t size_bytes) noexcept = 0;

  virtual std::unique_ptr<Stream> create_stream() = 0;
  virtual std::unique_ptr<Event> create_event() = 0;

  // --- work and memory of others; Unimplemented where a backend has no such thing

  // Fires `event`, of create_event(), when all work given so far to `stream` is
  // done: one of another owner, by its native handle (CUDA: a cudaStream_t, or 1
  // and 2, the default streams).
  virtual Status record_foreign(void* stream, Event& event);

  // Memory that another process has shared by `handle`, in bytes (CUDA:
  // cudaIpcMemHandle_t), at least `size_bytes` of it. Throws InvalidInput.
  virtual void* open_shared(std::span<const std::byte> handle, std::size_t size_bytes);
  virtual void close_shared(void* address) noexcept;
};

// A line of the table of backends.
struct BackendEntry {
  DeviceKind kind;
  std::string_view name;                  // "cpu"
  int (*device_count)();                  // 0 where it is absent
  std::string (*why_absent)();            // empty where it is present
  DeviceBackend& (*open)(int16_t index);  // throws Unavailable with why_absent()
  // The hardware, "NVIDIA H200, 139.8 GiB, CUDA 13.0"; empty where there is nothing to say.
  std::string (*describe)(int16_t index);
};

std::span<const BackendEntry> device_backends();

// Throws Unavailable, with the reason, when `device` is not there.
DeviceBackend& open_device(Device device);

}  // namespace pyruntime
