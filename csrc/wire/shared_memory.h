// Regions of memory that clients on this machine share with the server, by
// name: of the system (POSIX shared memory) and of GPUs (CUDA IPC). Tensors of
// requests then lie there instead of in the message.
//
// A region that is taken off the list stays mapped as long as a request uses
// it. One that its owner truncates while it is used faults, as for all who map
// files: clients must be trusted not to.
//
// Threads: all calls from any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "memory/buffer.h"
#include "memory/device.h"
#include "memory/tensor.h"

namespace pyruntime {

class SharedMemory {
 public:
  struct Region {
    std::string name;
    std::string key;  // of the system's: its name there; of a GPU's: empty
    uint64_t offset = 0;
    uint64_t size_bytes = 0;
    Device device;  // of the system's: the host
    Buffer memory{};

    bool is_of_system() const { return device == Device{}; }
  };

  // Maps `size_bytes` from `offset` on of what shm_open() calls `key`. Throws
  // InvalidInput, also where the name is taken (see has()).
  void add_system(const std::string& name, const std::string& key, uint64_t offset,
                  uint64_t size_bytes);
  // Maps memory of a GPU that another process has shared. Throws InvalidInput,
  // or Unavailable where there is no such GPU.
  void add_device(const std::string& name, Device device, std::span<const std::byte> handle,
                  uint64_t size_bytes);

  bool has(const std::string& name) const;
  // All, by name.
  std::vector<Region> regions() const;

  // Takes a region off the list, if it is there and of that kind; an empty name
  // means all of that kind.
  void remove_system(const std::string& name) { remove(name, true); }
  void remove_device(const std::string& name) { remove(name, false); }

  // Sets data, buffer and device of `tensor` to `size_bytes` from `offset` on.
  // ModelNotFound for no such region, InvalidInput for what is not within it.
  Status find(std::string_view name, uint64_t offset, uint64_t size_bytes, Tensor* tensor) const;

 private:
  void check_new(const std::string& name, uint64_t size_bytes) const;
  void add(Region region);
  void remove(const std::string& name, bool is_of_system);

  mutable std::mutex mutex_;  // guards regions_
  std::map<std::string, Region, std::less<>> regions_;
};

}  // namespace pyruntime
