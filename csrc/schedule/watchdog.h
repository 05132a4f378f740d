// Reports runs that do not come back. One thread for all models of the process,
// while any is loaded; it sleeps without a limit while nothing runs.
//
// Whoever begins a run looks at one flag, and wakes the thread if that sleeps
// without a limit. While something runs the thread wakes no sooner than a run
// can be overdue.
#pragma once

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "base/event_count.h"

namespace pyruntime {

class ActiveRuns;

// Threads: all calls from any.
class Watchdog {
 public:
  // Never destroyed. A child of fork() has its own.
  static Watchdog& instance();

  // Throws Overloaded when the thread cannot be started.
  void add(ActiveRuns& runs);
  // On return it is not looked at any more.
  void remove(ActiveRuns& runs);

  // After a run was announced.
  void notice_run() {
    // seq_cst: see ActiveRun::begin()
    if (is_asleep_.load(std::memory_order_seq_cst)) wake();
  }

 private:
  void wake();
  void watch(const std::stop_token& stop);

  std::atomic<bool> is_asleep_{false};
  EventCount events_;

  std::mutex mutex_;  // guards what is below
  std::vector<ActiveRuns*> models_;
  std::jthread thread_;
};

}  // namespace pyruntime
