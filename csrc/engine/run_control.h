// Ends a run early, from another thread.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"
#include "base/futex.h"

namespace pyruntime {

// Made by a session and given to its runs, one at a time, again and again.
//
// Threads: terminate() from any while the run is under way; rearm() by who
// runs, while no other thread may call terminate().
class RunControl {
 public:
  RunControl() = default;
  virtual ~RunControl() = default;

  RunControl(const RunControl&) = delete;
  RunControl& operator=(const RunControl&) = delete;

  // Asks the run to end early and to fail as cancelled. Best effort: it may
  // also have ended well.
  void terminate() {
    is_terminated_.store(1, std::memory_order_release);  // pairs with is_terminated()
    tell_engine(true);
    futex_wake(is_terminated_, 1);
  }
  // For the next run.
  void rearm() {
    is_terminated_.store(0, std::memory_order_relaxed);
    tell_engine(false);
  }
  bool is_terminated() const {
    return is_terminated_.load(std::memory_order_acquire) != 0;  // pairs with terminate()
  }

  // Sleeps that long, or until terminate().
  void sleep(Nanoseconds duration) {
    const auto end = std::chrono::steady_clock::now() + duration;
    for (Nanoseconds left = duration; left.count() > 0 && !is_terminated();
         left = end - std::chrono::steady_clock::now()) {
      futex_wait(is_terminated_, 0, left);
    }
  }

 private:
  virtual void tell_engine(bool /*terminates*/) {}

  std::atomic<uint32_t> is_terminated_{0};  // a futex's word
};

}  // namespace pyruntime
