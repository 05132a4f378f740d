#include "memory/buffer_pool.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <sys/mman.h>

#include "base/cache_line.h"
#include "base/slab.h"
#include "memory/free_list.h"
#include "memory/pages.h"
#include "memory/size_class.h"

namespace pyruntime {
namespace {

// Classes too large for a slab are multiples of 4 KiB: they waste no page.
constexpr std::size_t kSlabBytes = std::size_t{128} << 10U;
constexpr std::size_t kMaxBytesInSlab = kSlabBytes / 8;

}  // namespace

// One allocation from the system, cut into blocks of one class.
struct PoolExtent {
  void* address = nullptr;
  std::size_t size_bytes = 0;
  uint32_t blocks = 0;
  uint32_t blocks_free = 0;  // counted anew by each trim()
};

struct BufferPool::State {
  State(DeviceBackend& device_backend, const Options& pool_options)
      : backend(device_backend), options(pool_options), device(device_backend.device()) {}
  ~State();

  PoolBlock* grow_or_refuse(std::size_t size_bytes, Status* refusal) noexcept;
  PoolBlock* grow(std::size_t size_bytes, Status* refusal);
  PoolBlock* cut(std::size_t block_bytes, uint32_t count);
  std::size_t trim_locked();
  void* allocate_extent(std::size_t size_bytes);
  void free_extent(void* address, std::size_t size_bytes) noexcept;
  Status failure(ErrorCode code, const std::string& what) const;
  Status exhaustion(std::size_t size_bytes);

  std::size_t used_bytes() const {
    return used_and_alive.load(std::memory_order_relaxed) & ~std::size_t{1};
  }
  bool is_host_memory() const {
    return options.placement == Placement::kHost || backend.is_host_accessible();
  }
  static void release(BufferBlock* block) noexcept;

  // Constant after construction.
  DeviceBackend& backend;
  const Options options;
  const Device device;

  // Synchronise themselves.
  std::array<FreeList, SizeClass::kCount> free_lists;
  Slab<PoolBlock> blocks{[] { return std::make_unique<PoolBlock>(); }};

  // Bytes lent out, plus one while the pool itself lives: whoever brings it to
  // zero deletes this. (Classes are multiples of 64 bytes.)
  alignas(kCacheLine) std::atomic<std::size_t> used_and_alive{1};
  std::atomic<std::size_t> peak_used_bytes{0};
  std::atomic<std::size_t> held_bytes{0};  // written under `mutex`
  std::atomic<uint64_t> exhaustions{0};

  std::mutex mutex;  // guards what is below
  std::vector<std::unique_ptr<PoolExtent>> extents;
  uint64_t system_allocations = 0;
  uint64_t uses_before_trim = 0;  // of blocks that trim() took apart
};

BufferPool::State::~State() {
  for (const auto& extent : extents) free_extent(extent->address, extent->size_bytes);
}

void BufferPool::State::release(BufferBlock* released) noexcept {
  auto& block = *static_cast<PoolBlock*>(released);
  auto& state = *static_cast<State*>(block.owner);
  const std::size_t size_bytes = block.size_bytes;
  state.free_lists[block.size_class].push(block, block);
  // acq_rel: pairs with itself, so that whoever deletes comes after all others
  if (state.used_and_alive.fetch_sub(size_bytes, std::memory_order_acq_rel) == size_bytes) {
    delete &state;
  }
}

Status BufferPool::State::failure(ErrorCode code, const std::string& what) const {
  return {code, "buffer pool on '" + device.name() + "': " + what};
}

Status BufferPool::State::exhaustion(std::size_t size_bytes) {
  exhaustions.fetch_add(1, std::memory_order_relaxed);
  return failure(ErrorCode::kOverloaded,
                 "no " + std::to_string(size_bytes) +
                     " bytes left: " + std::to_string(used_bytes()) + " in use, " +
                     std::to_string(held_bytes.load(std::memory_order_relaxed)) +
                     " held, capacity " + std::to_string(options.capacity_bytes) + " bytes");
}

void* BufferPool::State::allocate_extent(std::size_t size_bytes) {
  void* const address = options.placement == Placement::kHost ? backend.allocate_host(size_bytes)
                                                              : backend.allocate(size_bytes);
  if (!is_host_memory()) return address;
  // Advice alone: a kernel without huge pages refuses it, and all is well.
  if (options.huge_pages && size_bytes >= kHugePageBytes) {
    (void)madvise(address, size_bytes, MADV_HUGEPAGE);
  }
  if (options.lock_pages && mlock(address, size_bytes) != 0) {
    const std::string reason = std::strerror(errno);
    free_extent(address, size_bytes);
    throw Error(ErrorCode::kOverloaded, "mlock of " + std::to_string(size_bytes) +
                                            " bytes: " + reason + " (is RLIMIT_MEMLOCK too low?)");
  }
  return address;
}

void BufferPool::State::free_extent(void* address, std::size_t size_bytes) noexcept {
  if (options.lock_pages && munlock(address, size_bytes) != 0) {
    std::fprintf(stderr, "pyruntime: buffer pool: munlock: %s\n", std::strerror(errno));
  }
  if (options.placement == Placement::kHost) {
    backend.free_host(address, size_bytes);
  } else {
    backend.free(address, size_bytes);
  }
}

PoolBlock* BufferPool::State::grow_or_refuse(std::size_t size_bytes, Status* refusal) noexcept {
  try {
    if (size_bytes <= SizeClass::kMaxBytes) return grow(size_bytes, refusal);
    *refusal = exhaustion(size_bytes);
  } catch (const Error& error) {
    *refusal = failure(error.code(), error.what());
  } catch (const std::exception& error) {
    *refusal = failure(ErrorCode::kOverloaded, error.what());
  }
  return nullptr;
}

// Finds a block of a class whose list was empty, or returns nullptr and says
// why. Throws Error and std::bad_alloc.
PoolBlock* BufferPool::State::grow(std::size_t size_bytes, Status* refusal) {
  const unsigned size_class = SizeClass::of(size_bytes);
  const std::size_t block_bytes = SizeClass::size_bytes(size_class);
  const std::lock_guard lock(mutex);
  // Another thread may have grown the class, or a trim() put its blocks back.
  if (PoolBlock* block = free_lists[size_class].pop(blocks)) return block;

  const auto room = [&] {
    return options.capacity_bytes - held_bytes.load(std::memory_order_relaxed);
  };
  if (block_bytes > room()) trim_locked();
  if (block_bytes > room()) {
    *refusal = exhaustion(size_bytes);
    return nullptr;
  }
  const std::size_t count =
      block_bytes > kMaxBytesInSlab ? 1 : std::min(kSlabBytes, room()) / block_bytes;
  return cut(block_bytes, static_cast<uint32_t>(count));
}

// Gets `count` blocks from the system; returns the first and frees the others.
PoolBlock* BufferPool::State::cut(std::size_t block_bytes, uint32_t count) {
  const unsigned size_class = SizeClass::of(block_bytes);
  auto extent = std::make_unique<PoolExtent>();
  *extent = {.address = nullptr, .size_bytes = count * block_bytes, .blocks = count};
  extents.reserve(extents.size() + 1);
  std::vector<PoolBlock*> heads;
  heads.reserve(count);
  try {
    while (heads.size() < count) {
      const auto [head, index] = blocks.take();
      head->tag = index;
      heads.push_back(head);
    }
    extent->address = allocate_extent(extent->size_bytes);
  } catch (...) {
    for (const PoolBlock* head : heads) blocks.give(static_cast<uint32_t>(head->tag));
    throw;
  }
  for (uint32_t i = 0; i < count; ++i) {
    PoolBlock& head = *heads[i];
    head.data = static_cast<std::byte*>(extent->address) + i * block_bytes;
    head.size_bytes = block_bytes;
    head.device = device;
    head.release = release;
    head.owner = this;
    head.size_class = size_class;
    head.extent = extent.get();
    if (i != 0) {
      heads[i - 1]->next.store(static_cast<uint32_t>(head.tag), std::memory_order_relaxed);
    }
  }
  held_bytes.fetch_add(extent->size_bytes, std::memory_order_relaxed);
  ++system_allocations;
  extents.push_back(std::move(extent));
  if (count > 1) free_lists[size_class].push(*heads[1], *heads[count - 1]);
  return heads[0];
}

// Takes every list, gives back the extents of which all blocks were there, and
// puts the other blocks back.
std::size_t BufferPool::State::trim_locked() {
  for (const auto& extent : extents) extent->blocks_free = 0;
  std::array<uint32_t, SizeClass::kCount> taken;
  for (unsigned i = 0; i < SizeClass::kCount; ++i) {
    taken[i] = free_lists[i].take_all();
    for (uint32_t at = taken[i]; at != FreeList::kNone;) {
      const PoolBlock& block = blocks.at(at);
      ++block.extent->blocks_free;
      at = block.next.load(std::memory_order_relaxed);
    }
  }
  for (unsigned i = 0; i < SizeClass::kCount; ++i) {
    for (uint32_t at = taken[i]; at != FreeList::kNone;) {
      PoolBlock& block = blocks.at(at);
      const uint32_t next = block.next.load(std::memory_order_relaxed);
      if (block.extent->blocks_free == block.extent->blocks) {
        uses_before_trim += block.uses.exchange(0, std::memory_order_relaxed);
        blocks.give(at);
      } else {
        free_lists[i].push(block, block);
      }
      at = next;
    }
  }
  std::size_t freed_bytes = 0;
  std::erase_if(extents, [&](const std::unique_ptr<PoolExtent>& extent) {
    if (extent->blocks_free != extent->blocks) return false;
    free_extent(extent->address, extent->size_bytes);
    freed_bytes += extent->size_bytes;
    return true;
  });
  held_bytes.fetch_sub(freed_bytes, std::memory_order_relaxed);
  return freed_bytes;
}

BufferPool::BufferPool(DeviceBackend& backend, const Options& options)
    : state_(new State(backend, options)) {
  if (options.lock_pages && !state_->is_host_memory()) {
    const Status refusal = state_->failure(
        ErrorCode::kInvalidInput, "lock_pages: expected host memory, got placement on the device");
    delete state_;
    refusal.throw_if_failed();
  }
}

BufferPool::~BufferPool() {
  trim();
  // acq_rel: pairs with the one in release()
  if (state_->used_and_alive.fetch_sub(1, std::memory_order_acq_rel) == 1) delete state_;
}

Buffer BufferPool::allocate(std::size_t size_bytes, Status* status) noexcept {
  State& state = *state_;
  PoolBlock* block = nullptr;
  if (size_bytes <= SizeClass::kMaxBytes) {
    block = state.free_lists[SizeClass::of(size_bytes)].pop(state.blocks);
  }
  if (block == nullptr) {
    Status refusal;
    block = state.grow_or_refuse(size_bytes, &refusal);
    if (block == nullptr) {
      if (status != nullptr) *status = std::move(refusal);
      return {};
    }
  }
  block->uses.store(block->uses.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  block->references.store(1, std::memory_order_relaxed);
  const std::size_t before =
      state.used_and_alive.fetch_add(block->size_bytes, std::memory_order_relaxed);
  const std::size_t used = (before & ~std::size_t{1}) + block->size_bytes;
  std::size_t peak = state.peak_used_bytes.load(std::memory_order_relaxed);
  while (used > peak &&
         !state.peak_used_bytes.compare_exchange_weak(peak, used, std::memory_order_relaxed)) {
  }
  return Buffer::adopt(block);
}

std::size_t BufferPool::trim() {
  const std::lock_guard lock(state_->mutex);
  return state_->trim_locked();
}

BufferPool::Stats BufferPool::stats() const {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  Stats stats;
  stats.held_bytes = state.held_bytes.load(std::memory_order_relaxed);
  stats.used_bytes = std::min(state.used_bytes(), stats.held_bytes);
  // A block is counted as lent out until just after it is free for others.
  stats.peak_used_bytes =
      std::min(state.peak_used_bytes.load(std::memory_order_relaxed), state.options.capacity_bytes);
  stats.allocations = state.uses_before_trim;
  for (uint32_t i = 0; i < state.blocks.size(); ++i) {
    stats.allocations += state.blocks.at(i).uses.load(std::memory_order_relaxed);
  }
  stats.system_allocations = state.system_allocations;
  stats.exhaustions = state.exhaustions.load(std::memory_order_relaxed);
  return stats;
}

Device BufferPool::device() const { return state_->device; }

const BufferPool::Options& BufferPool::options() const { return state_->options; }

}  // namespace pyruntime
