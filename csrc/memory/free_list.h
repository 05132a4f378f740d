// The free blocks of one size class: Treiber's stack over 32-bit indices, with
// a 32-bit tag against ABA. Links lie in the blocks, which live in a Slab, so
// that a stale read of one never touches unmapped memory.
//
// Threads: all calls from any.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/cache_line.h"
#include "base/slab.h"
#include "memory/buffer.h"

namespace pyruntime {

struct PoolExtent;

// `owner` is the pool's state, `tag` the index in its slab.
struct PoolBlock : BufferBlock {
  std::atomic<uint32_t> next{UINT32_MAX};
  uint32_t size_class = 0;
  PoolExtent* extent = nullptr;
  std::atomic<uint64_t> uses{0};  // written only by whoever holds the block
};

class alignas(kCacheLine) FreeList {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  // nullptr when empty.
  PoolBlock* pop(Slab<PoolBlock>& blocks) {
    uint64_t head = head_.load(std::memory_order_acquire);  // pairs with push()
    while (index_of(head) != kNone) {
      PoolBlock& block = blocks.at(index_of(head));
      // May be stale; then the tag has moved on and the exchange fails.
      const uint32_t next = block.next.load(std::memory_order_relaxed);
      if (head_.compare_exchange_weak(head, successor(head, next), std::memory_order_acquire)) {
        return &block;
      }
    }
    return nullptr;
  }

  // Pushes a chain that is linked from `first` to `last`.
  void push(PoolBlock& first, PoolBlock& last) {
    uint64_t head = head_.load(std::memory_order_relaxed);
    do {
      last.next.store(index_of(head), std::memory_order_relaxed);
    } while (
        !head_.compare_exchange_weak(head, successor(head, static_cast<uint32_t>(first.tag)),
                                     std::memory_order_release,  // pairs with pop() and take_all()
                                     std::memory_order_relaxed));
  }

  // Empties the list; returns the index of its first block or kNone.
  uint32_t take_all() {
    uint64_t head = head_.load(std::memory_order_relaxed);
    while (!head_.compare_exchange_weak(head, successor(head, kNone),
                                        std::memory_order_acquire,  // pairs with push()
                                        std::memory_order_relaxed)) {
    }
    return index_of(head);
  }

 private:
  static uint32_t index_of(uint64_t head) { return static_cast<uint32_t>(head); }
  static uint64_t successor(uint64_t head, uint32_t index) {
    return (((head >> 32) + 1) << 32) | index;
  }

  std::atomic<uint64_t> head_{kNone};
};

}  // namespace pyruntime
