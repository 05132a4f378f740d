// Who may come in, and whether everybody has left.
//
// Three counts that only grow, so that who enters and who leaves write to lines
// of their own: what waits or is in flight is a difference of two.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/cache_line.h"
#include "base/error.h"
#include "schedule/batching_options.h"

namespace pyruntime {

// Threads: all calls from any.
class Admission {
 public:
  explicit Admission(const BatchingOptions& options)
      : queue_capacity_(options.queue_capacity),
        queue_rows_(options.queue_rows),
        queue_bytes_(options.queue_bytes) {}

  // Lets in one request of `rows` rows and `bytes` bytes of inputs, or says
  // Overloaded or Unavailable.
  [[nodiscard]] Status enter(int64_t rows, int64_t bytes);
  // `n` of them wait no longer.
  void leave_queue(int64_t n, int64_t rows, int64_t bytes) {
    dequeued_.fetch_add(n, std::memory_order_relaxed);
    if (queue_rows_ != 0) waiting_rows_.fetch_sub(rows, std::memory_order_relaxed);
    if (queue_bytes_ != 0) waiting_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  }
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
  // Whether some that were let in have left the queue and are not done.
  bool is_running() const {
    return dequeued_.load(std::memory_order_relaxed) > done_.load(std::memory_order_relaxed);
  }

 private:
  const int64_t queue_capacity_;
  const int64_t queue_rows_;
  const int64_t queue_bytes_;
  // One who is refused is counted for a moment.
  alignas(kCacheLine) std::atomic<int64_t> entered_{0};
  std::atomic<bool> accepting_{true};
  alignas(kCacheLine) std::atomic<int64_t> dequeued_{0};
  std::atomic<int64_t> done_{0};
  // Only where they are limited.
  alignas(kCacheLine) std::atomic<int64_t> waiting_rows_{0};
  std::atomic<int64_t> waiting_bytes_{0};
};

}  // namespace pyruntime
