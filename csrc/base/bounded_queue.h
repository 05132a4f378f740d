// A bounded lock-free queue of values, first in, first out.
//
// Dmitry Vyukov's bounded MPMC queue: each cell carries the ticket for which
// it is next usable. Tickets have 64 bits, so they never wrap.
//
// Threads: try_push() and try_pop() from any. A producer preempted between
// claiming a cell and publishing it hides the cells behind it: try_pop() then
// answers "empty", and the producer's own wake-up follows its publication.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <utility>

#include "base/cache_line.h"

namespace pyruntime {

template <typename T>
class BoundedQueue {
 public:
  // capacity: rounded up to a power of two, at least 1.
  explicit BoundedQueue(std::size_t capacity)
      : mask_(std::bit_ceil(capacity < 1 ? std::size_t{1} : capacity) - 1),
        cells_(new Cell[mask_ + 1]) {
    for (std::size_t i = 0; i <= mask_; ++i) {
      cells_[i].ticket.store(2 * i, std::memory_order_relaxed);
    }
  }

  BoundedQueue(const BoundedQueue&) = delete;
  BoundedQueue& operator=(const BoundedQueue&) = delete;

  std::size_t capacity() const { return mask_ + 1; }

  // Takes `value`, or returns false and leaves it with the caller when full.
  [[nodiscard]] bool try_push(T& value) {
    uint64_t tail = tail_.load(std::memory_order_relaxed);
    for (;;) {
      Cell& cell = cells_[tail & mask_];
      // pairs with the release in try_pop()
      const uint64_t ticket = cell.ticket.load(std::memory_order_acquire);
      const auto lag = static_cast<int64_t>(ticket - 2 * tail);
      if (lag == 0) {
        if (tail_.compare_exchange_weak(tail, tail + 1, std::memory_order_relaxed)) {
          cell.value = std::move(value);
          cell.ticket.store(2 * tail + 1, std::memory_order_release);  // pairs with try_pop()
          return true;
        }
      } else if (lag < 0) {
        return false;
      } else {
        tail = tail_.load(std::memory_order_relaxed);
      }
    }
  }

  // Moves the oldest value into `value`, or returns false when empty.
  [[nodiscard]] bool try_pop(T& value) {
    uint64_t head = head_.load(std::memory_order_relaxed);
    for (;;) {
      Cell& cell = cells_[head & mask_];
      // pairs with the release in try_push()
      const uint64_t ticket = cell.ticket.load(std::memory_order_acquire);
      const auto lag = static_cast<int64_t>(ticket - (2 * head + 1));
      if (lag == 0) {
        if (head_.compare_exchange_weak(head, head + 1, std::memory_order_relaxed)) {
          value = std::move(cell.value);
          // pairs with the acquire in try_push()
          cell.ticket.store(2 * (head + mask_ + 1), std::memory_order_release);
          return true;
        }
      } else if (lag < 0) {
        return false;
      } else {
        head = head_.load(std::memory_order_relaxed);
      }
    }
  }

  // How many values it holds, about.
  int64_t size() const {
    const uint64_t head = head_.load(std::memory_order_relaxed);
    const uint64_t tail = tail_.load(std::memory_order_relaxed);
    return tail > head ? static_cast<int64_t>(tail - head) : 0;
  }

  // Whether a pop would have found nothing. Exact only for a sole consumer.
  bool is_empty() const {
    const uint64_t head = head_.load(std::memory_order_relaxed);
    const uint64_t ticket = cells_[head & mask_].ticket.load(std::memory_order_acquire);
    return static_cast<int64_t>(ticket - (2 * head + 1)) < 0;
  }

 private:
  // A cell is free for push number n at ticket 2n and holds its value at
  // 2n + 1. Doubled tickets keep the two apart in a queue of one cell too.
  struct Cell {
    std::atomic<uint64_t> ticket{0};
    T value{};
  };

  // Constant after construction.
  const std::size_t mask_;
  const std::unique_ptr<Cell[]> cells_;

  alignas(kCacheLine) std::atomic<uint64_t> tail_{0};
  alignas(kCacheLine) std::atomic<uint64_t> head_{0};
};

}  // namespace pyruntime
