// Objects of one type, made once and lent out again and again.
//
// The free list is Treiber's stack over 32-bit indices with a 32-bit tag
// against ABA. Memory is given back to the system only when the slab dies, so
// a late futex wake or a stale read of a link never touches unmapped memory.
//
// Threads: take() and give() from any. take() allocates only while the number
// lent out is at its highest ever.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "base/cache_line.h"

namespace pyruntime {

template <typename T>
class Slab {
 public:
  using Make = std::function<std::unique_ptr<T>()>;

  explicit Slab(Make make) : make_(std::move(make)) {}

  ~Slab() {
    for (auto& chunk : chunks_) delete[] chunk.load(std::memory_order_relaxed);
  }

  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  struct Lent {
    T* object;
    uint32_t index;  // give() wants it back
  };

  Lent take() {
    uint64_t head = head_.load(std::memory_order_acquire);  // pairs with give()
    while (index_of(head) != kNone) {
      Node& node = node_at(index_of(head));
      const uint64_t next = pack(node.next.load(std::memory_order_relaxed), tag_of(head) + 1);
      if (head_.compare_exchange_weak(head, next, std::memory_order_acquire)) {
        return {node.object.get(), index_of(head)};
      }
    }
    return grow();
  }

  void give(uint32_t index) {
    Node& node = node_at(index);
    uint64_t head = head_.load(std::memory_order_relaxed);
    do {
      node.next.store(index_of(head), std::memory_order_relaxed);
    } while (!head_.compare_exchange_weak(head, pack(index, tag_of(head) + 1),
                                          std::memory_order_release,  // pairs with take()
                                          std::memory_order_relaxed));
  }

  // The object that take() lent out as `index`, or once did.
  T& at(uint32_t index) { return *node_at(index).object; }

  // How many objects exist, lent out or not.
  uint32_t size() const { return size_.load(std::memory_order_relaxed); }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr uint32_t kChunk = 64;
  static constexpr uint32_t kMaxChunks = 1 << 14;  // about a million objects

  struct Node {
    std::unique_ptr<T> object;
    std::atomic<uint32_t> next{kNone};
  };

  static uint32_t index_of(uint64_t head) { return static_cast<uint32_t>(head); }
  static uint32_t tag_of(uint64_t head) { return static_cast<uint32_t>(head >> 32); }
  static uint64_t pack(uint32_t index, uint32_t tag) {
    return (static_cast<uint64_t>(tag) << 32) | index;
  }

  Node& node_at(uint32_t index) {
    // acquire: pairs with the release in grow()
    return chunks_[index / kChunk].load(std::memory_order_acquire)[index % kChunk];
  }

  Lent grow() {
    const std::lock_guard lock(grow_mutex_);
    const uint32_t index = size_.load(std::memory_order_relaxed);
    if (index == kChunk * kMaxChunks) throw std::length_error("Slab: more than 2^20 objects");
    if (chunks_[index / kChunk].load(std::memory_order_relaxed) == nullptr) {
      chunks_[index / kChunk].store(new Node[kChunk], std::memory_order_release);
    }
    Node& node = node_at(index);
    node.object = make_();
    size_.store(index + 1, std::memory_order_relaxed);
    return {node.object.get(), index};
  }

  const Make make_;
  std::mutex grow_mutex_;  // guards growth
  std::unique_ptr<std::atomic<Node*>[]> chunk_table_{new std::atomic<Node*>[kMaxChunks]()};
  struct Span {
    std::atomic<Node*>* first;
    std::atomic<Node*>& operator[](uint32_t i) const { return first[i]; }
    std::atomic<Node*>* begin() const { return first; }
    std::atomic<Node*>* end() const { return first + kMaxChunks; }
  };
  const Span chunks_{chunk_table_.get()};
  std::atomic<uint32_t> size_{0};

  alignas(kCacheLine) std::atomic<uint64_t> head_{pack(kNone, 0)};
};

}  // namespace pyruntime
