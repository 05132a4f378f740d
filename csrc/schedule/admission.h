// Who may come in, and whether everybody has left.
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
  void leave_queue(int64_t n) { queued_.fetch_sub(n, std::memory_order_relaxed); }
  // `n` of them are done. The last touch of this object by who answered them.
  void leave(int64_t n) {
    outstanding_.fetch_sub(n, std::memory_order_release);  // pairs with outstanding()
  }

  void stop_accepting() { accepting_.store(false, std::memory_order_seq_cst); }
  bool is_accepting() const { return accepting_.load(std::memory_order_relaxed); }

  // Requests let in and not done. Once zero after stop_accepting(), it stays so.
  int64_t outstanding() const { return outstanding_.load(std::memory_order_seq_cst); }
  int64_t queued() const { return queued_.load(std::memory_order_relaxed); }

 private:
  const int queue_capacity_;
  alignas(kCacheLine) std::atomic<int64_t> queued_{0};
  std::atomic<int64_t> outstanding_{0};
  std::atomic<bool> accepting_{true};
};

}  // namespace pyruntime
