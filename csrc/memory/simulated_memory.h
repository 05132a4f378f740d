// The memory of a simulated device, and the copies that work on it.
//
// Threads: all calls from any.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "memory/device_simulated.h"
#include "memory/stream.h"

namespace pyruntime {

// A copy that was given to a stream, with the faults it is to suffer.
struct SimulatedCopy {
  uint64_t id = 0;
  void* destination = nullptr;
  const void* source = nullptr;
  std::size_t size_bytes = 0;
  CopyKind kind = CopyKind::kHostToHost;
  std::chrono::microseconds delay{0};
  bool is_sound = false;           // the addresses are what `kind` says
  bool is_stalled = false;         // does not end before stalls are released
  uint64_t stall_releases = 0;     // so far, when it was given
  Status failure;                  // what it is to fail with
  std::vector<std::byte> arrived;  // bytes for a host destination, before they are delivered

  bool is_from_host() const {
    return kind == CopyKind::kHostToDevice || kind == CopyKind::kHostToHost;
  }
  bool is_to_host() const {
    return kind == CopyKind::kDeviceToHost || kind == CopyKind::kHostToHost;
  }
};

class SimulatedMemory {
 public:
  explicit SimulatedMemory(int16_t index);

  void set_faults(const SimulatedFaults& faults);

  void* allocate(std::size_t size_bytes);
  void free(void* address, std::size_t size_bytes) noexcept;
  void* allocate_host(std::size_t size_bytes);
  // Waits for the work under way on it, which is a misuse.
  void free_host(void* address, std::size_t size_bytes) noexcept;

  // On the host's side: checks the addresses, poisons a host destination and
  // remembers what is in use until deliver() or abandon().
  SimulatedCopy begin(void* destination, const void* source, std::size_t size_bytes, CopyKind kind);
  // On the stream's side, in this order. run() poisons, waits and copies, but
  // keeps what is for the host until deliver(). A copy with a failure ends
  // poisoned.
  Status run(SimulatedCopy& copy);
  void deliver(const SimulatedCopy& copy);
  void abandon(const SimulatedCopy& copy);

  std::chrono::microseconds draw_delay();
  void count_misuse();
  uint64_t misuse_count() const;
  uint64_t used_bytes() const;
  const std::string& name() const { return name_; }

 private:
  struct Allocation {
    std::size_t size_bytes;
    std::size_t room_bytes;  // of addresses, with the gap behind it
    std::unique_ptr<std::byte[]> bytes;
  };
  struct Range {
    uint64_t copy_id;
    uintptr_t begin;
    uintptr_t end;
  };

  void wait_out_stall(const SimulatedCopy& copy);

  // All with `mutex_` held.
  uintptr_t find_room(std::size_t room_bytes);
  std::byte* bytes_at(const void* address, std::size_t size_bytes) const;
  bool is_in_use(const void* address, std::size_t size_bytes) const;
  bool is_device_address(const void* address, std::size_t size_bytes) const;
  std::chrono::microseconds draw_delay_locked();

  // Constant after construction.
  const std::string name_;
  std::byte* range_ = nullptr;  // where addresses come from
  uintptr_t first_address_ = 0;

  mutable std::mutex mutex_;  // guards what is below, and all device bytes
  std::condition_variable in_use_changed_;
  std::condition_variable stalls_released_;
  uint64_t stall_releases_ = 0;
  SimulatedFaults faults_;
  std::minstd_rand random_;
  std::map<uintptr_t, Allocation> allocations_;
  uintptr_t next_address_ = 0;  // addresses are not soon reused
  std::size_t used_bytes_ = 0;
  std::vector<Range> in_use_;
  uint64_t last_copy_id_ = 0;
  uint64_t misuses_ = 0;
};

}  // namespace pyruntime
