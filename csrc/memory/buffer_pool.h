// Memory that is allocated once and lent out again and again.
//
// Sizes are rounded up to classes (size_class.h). Each class keeps its free
// blocks in a lock-free stack; blocks of small classes are cut from slabs,
// larger ones are allocated singly. What was freed stays with the pool until
// trim(), or until the cap would otherwise refuse an allocation.
//
// Threads: all calls from any.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "memory/buffer.h"
#include "memory/device.h"

namespace pyruntime {

class BufferPool {
 public:
  enum class Placement : uint8_t {
    kHost,    // the device's allocate_host()
    kDevice,  // the device's allocate()
  };

  struct Options {
    Placement placement = Placement::kHost;
    std::size_t capacity_bytes = std::size_t{1} << 30;  // hard cap on what the pool holds
    bool lock_pages = false;  // mlock what it holds; failing to is an error
    bool huge_pages = true;   // advise them for blocks of 2 MiB and more
  };

  struct Stats {
    std::size_t held_bytes = 0;  // from the system
    std::size_t used_bytes = 0;  // lent out, rounded up to classes
    std::size_t peak_used_bytes = 0;
    uint64_t allocations = 0;         // allocate() calls that succeeded
    uint64_t system_allocations = 0;  // of them, those that went to the system
    uint64_t exhaustions = 0;         // allocate() calls refused by the cap
  };

  // `backend` must outlive the pool (they live as long as the process). Throws
  // InvalidInput when pages are to be locked that the host cannot reach.
  BufferPool(DeviceBackend& backend, const Options& options);

  // Buffers may outlive the pool's owner: the memory goes back to the system
  // with the last of them.
  ~BufferPool();

  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // At least `size_bytes` (0 gives a valid empty block), aligned to 64 bytes.
  // Returns a null Buffer and says why in `*status` (Overloaded) when the cap is
  // reached or the system has no more; never another kind of memory instead.
  // `status` may be null and is left alone on success. Never throws.
  [[nodiscard]] Buffer allocate(std::size_t size_bytes, Status* status) noexcept;

  // Gives free blocks back to the system; returns how many bytes. A slab stays
  // while one of its blocks is lent out.
  std::size_t trim();

  Stats stats() const;
  Device device() const;
  const Options& options() const;

 private:
  struct State;
  // Lives until the pool and the last block lent out are gone.
  State* const state_;
};

}  // namespace pyruntime
