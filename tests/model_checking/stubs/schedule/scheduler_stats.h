// Counts nothing.
#pragma once

#include <cstdint>

#include "base/clock.h"
#include "base/error.h"

namespace pyruntime {

class SchedulerStats {
 public:
  explicit SchedulerStats(const Clock& clock) : clock_(clock) {}
  const Clock& clock() const { return clock_; }
  void count_unserved(ErrorCode, int64_t, int64_t) {}

 private:
  const Clock& clock_;
};

}  // namespace pyruntime
