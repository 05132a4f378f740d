// Who may come in, and whether everybody has left.
//
// Three counts that only grow, so that who enters and who leaves write to lines
// of their own: what waits or is in flight is a difference of two.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/cache_line.h"
#include "base/error.h"

namespace pyruntime {

// Threads: all calls from any.
class Admission {
 public:
  // queue_capacity: requests that may wait at once, at least 1.
  explicit Admission(int queue_capacity) : queue_capacity_(queue_capacity) {}

  // Lets one request in, or says Overloaded or Unavailable.
  [[nodiscard]] Status enter();
  // `n` of them wait no longer.
  void leave_queue(int64_t n) { dequeued_.fetch_add(n, std::memory_order_relaxed); }
  // `n` of them are done. The last touch of this object by who answered them.
  void leave(int64_t n) {
    done_.fetch_add(n, std::memory_order_release);  // pairs with outstanding()
  }

  void stop_accepting() { accepting_.store(false, std::memory_order_seq_cst); }
  bool is_accepting() const { return accepting_.load(std::memory_order_relaxed); }

  // Requests let in and not done. Once zero after stop_accepting(), it stays so.
  int64_t outstanding() const {
    // In this order: equal counts then mean that all who had entered were done.
    const int64_t done = done_.load(std::memory_order_acquire);  // pairs with leave()
    return entered_.load(std::memory_order_seq_cst) - done;      // see enter()
  }
  // Requests let in so far.
  int64_t accepted() const { return entered_.load(std::memory_order_acquire); }

 private:
  const int queue_capacity_;
  // One who is refused is counted for a moment.
  alignas(kCacheLine) std::atomic<int64_t> entered_{0};
  std::atomic<bool> accepting_{true};
  alignas(kCacheLine) std::atomic<int64_t> dequeued_{0};
  std::atomic<int64_t> done_{0};
};

}  // namespace pyruntime
