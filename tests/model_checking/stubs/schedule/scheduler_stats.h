// Counts nothing.
#pragma once

#include <cstdint>

#include "base/clock.h"
#include "base/error.h"

namespace pyruntime {

// Ending a run has a lock of its own, which is not checked here.
struct ActiveRuns {
  void end_unwanted() {}
};

class SchedulerStats {
 public:
  explicit SchedulerStats(const Clock& clock) : clock_(clock) {}
  const Clock& clock() const { return clock_; }
  ActiveRuns& active_runs() { return active_runs_; }
  void count_unserved(ErrorCode, int64_t, int64_t) {}

 private:
  const Clock& clock_;
  ActiveRuns active_runs_;
};

}  // namespace pyruntime
