// All that the fake driver knows: devices, memory, and what is under way on it.
//
// One mutex guards everything, device bytes included: the fake is to be right,
// not fast. Functions that end in _locked expect it held.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "control.h"
#include "ordering.h"

namespace fake_cuda {

enum Result : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kInvalidDevice = 101,
  kInvalidContext = 201,
  kOperatingSystem = 304,
  kInvalidHandle = 400,
  kNotReady = 600,
  kIllegalAddress = 700,
  kNotPermitted = 800,
  kUnknown = 999,
};

struct Stream;
struct Event;

// What lies behind a device's addresses. Shared with other processes once that is asked for.
class DeviceBytes {
 public:
  DeviceBytes() = default;
  explicit DeviceBytes(std::size_t size_bytes);  // data() null: there is no memory
  // Of another process, or of this one; data() null: there is no such memory any more.
  DeviceBytes(int process, int file, std::size_t size_bytes);
  ~DeviceBytes();
  DeviceBytes(DeviceBytes&& other) noexcept { *this = std::move(other); }
  DeviceBytes& operator=(DeviceBytes&& other) noexcept;

  std::byte* data() const { return data_; }
  // Has it lie in a file from now on, by whose number other processes find it; -1: impossible.
  int share();

 private:
  std::byte* data_ = nullptr;
  std::size_t size_bytes_ = 0;
  int file_ = -1;  // where it is shared
};

struct Device {
  Stream* default_stream = nullptr;  // made when first used, as long as the process
  Faults faults;
  uint64_t stall_releases = 0;
  int ended = kSuccess;  // the sticky error
  std::size_t used_bytes = 0;
  int contexts_retained = 0;
};

// A copy that was given to a stream, with the faults it is to suffer.
struct Copy {
  uint64_t id = 0;
  uintptr_t destination = 0;
  uintptr_t source = 0;
  std::size_t size_bytes = 0;
  bool is_from_host = false;
  bool is_to_host = false;
  bool is_stalled = false;
  bool ends_context = false;
  uint64_t stall_releases = 0;
  int64_t delay_us = 0;
  std::vector<std::byte> bytes;  // of pageable memory, or on the way to the host
};

class State {
 public:
  static State& instance();

  // --- memory
  uintptr_t allocate_locked(int device, std::size_t size_bytes);  // 0: none left
  bool free_locked(uintptr_t address);
  void* allocate_host_locked(std::size_t size_bytes);  // nullptr: none left
  bool free_host(std::unique_lock<std::mutex>& lock, void* address);
  // The bytes behind a device address, nullptr unless all of them are allocated.
  std::byte* bytes_at_locked(uintptr_t address, std::size_t size_bytes);
  // The allocation that holds this address: where it begins, on which device; false: none.
  bool find_locked(uintptr_t address, uintptr_t* begin, std::size_t* size_bytes, int* device) const;
  // By which file of this process others find it, -1: not at all.
  int share_locked(uintptr_t address);
  uintptr_t map_shared_locked(int device, int process, int file,
                              std::size_t size_bytes);  // 0: none
  std::size_t size_of_locked(
      uintptr_t address) const;  // of an allocation that begins there, else 0
  bool is_pinned_locked(uintptr_t address, std::size_t size_bytes) const;

  // --- work under way, until it is done or given up
  void begin_locked(const Copy& copy);
  void end_locked(const Copy& copy);
  bool is_in_use_locked(uintptr_t address, std::size_t size_bytes) const;

  int64_t draw_delay_us_locked(const Device& device);
  void misuse_locked(const std::string& what);
  // The result that the next call of `name` is to have, or kSuccess.
  int take_failure_locked(const std::string& name);

  std::mutex mutex;
  std::condition_variable changed;  // anything that someone may wait for
  std::array<Device, kDevices> devices;
  VectorClock host;  // what the host knows to be over
  AccessLog accesses;
  std::set<Stream*> streams;
  std::set<Event*> events;
  std::map<std::string, int> failures;  // by call, of the next one
  std::size_t host_bytes = 0;
  uint64_t misuses = 0;
  std::string last_misuse;
  uint64_t last_id = 0;

 private:
  State();

  struct Allocation {
    int device;
    std::size_t size_bytes;
    std::size_t room_bytes;  // of addresses, with the gap behind it
    DeviceBytes bytes;
    bool is_foreign = false;  // of another process
  };
  uintptr_t place_locked(int device, std::size_t size_bytes, DeviceBytes bytes, bool is_foreign);

  struct Range {
    uint64_t copy_id;
    uintptr_t begin;
    uintptr_t end;
  };

  uintptr_t range_ = 0;  // where device addresses come from: the host cannot touch them
  uintptr_t next_ = 0;   // addresses are not soon reused
  std::map<uintptr_t, Allocation> allocations_;
  std::map<uintptr_t, std::size_t> host_allocations_;
  std::vector<Range> in_use_;
  std::minstd_rand random_;
};

}  // namespace fake_cuda
