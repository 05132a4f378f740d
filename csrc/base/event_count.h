// Lets threads sleep until something in a lock-free structure changed.
//
//   waiter                                producer
//     Ticket t = events.prepare_wait();     publish(thing);
//     if (thing is there)                   events.notify_one();
//       events.cancel_wait();
//     else
//       events.wait(t);
//
// No wake-up is lost: both sides do a read-modify-write on the word
// `waiters_`. Whichever comes second in its modification order sees the other:
// the waiter sees what was published, or the producer sees the waiter. No
// stand-alone fence is needed, which ThreadSanitizer would not understand.
//
// Threads: all calls from any.
#pragma once

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>

#include "base/cache_line.h"
#include "base/futex.h"

namespace pyruntime {

class EventCount {
 public:
  using Ticket = uint32_t;

  // Announces a waiter. Must be followed by cancel_wait() or wait().
  Ticket prepare_wait() {
    // acq_rel: pairs with the one in notify()
    waiters_.fetch_add(1, std::memory_order_acq_rel);
    return epoch_.load(std::memory_order_acquire);  // pairs with the release in notify()
  }

  void cancel_wait() { waiters_.fetch_sub(1, std::memory_order_relaxed); }

  // Sleeps until a notification that came after prepare_wait(), at most
  // `timeout` (negative: no limit). Returns false when the time was up.
  bool wait(Ticket ticket, std::chrono::nanoseconds timeout = std::chrono::nanoseconds(-1)) {
    bool in_time = true;
    while (in_time && epoch_.load(std::memory_order_acquire) == ticket) {
      in_time = futex_wait(epoch_, ticket, timeout);
      if (timeout.count() >= 0) break;  // an early return is the caller's to notice
    }
    waiters_.fetch_sub(1, std::memory_order_relaxed);
    return in_time;
  }

  void notify_one() { notify(1); }
  void notify_all() { notify(INT_MAX); }

 private:
  void notify(int count) {
    // A read-modify-write that changes nothing; see the head of this file.
    if (waiters_.fetch_add(0, std::memory_order_acq_rel) == 0) return;
    epoch_.fetch_add(1, std::memory_order_release);  // pairs with prepare_wait() and wait()
    futex_wake(epoch_, count);
  }

  alignas(kCacheLine) std::atomic<uint32_t> waiters_{0};
  std::atomic<uint32_t> epoch_{0};
};

}  // namespace pyruntime
