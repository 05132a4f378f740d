// What is counted of one arm of a route.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/cache_line.h"
#include "base/error.h"
#include "base/metrics.h"

namespace pyruntime {

// assigned = completed + failed + cancelled + refused + what is in flight.
struct ArmStatsSnapshot {
  uint64_t assigned = 0;
  uint64_t completed = 0;
  uint64_t failed = 0;
  uint64_t cancelled = 0;
  uint64_t refused = 0;  // not accepted: the caller's mistake, a full queue, an unloading version
  uint64_t rewards = 0;  // given by feedback
  double reward_sum = 0;
  HistogramSnapshot total;  // from submission to completion, of completed requests
};

// Threads: all calls from any.
class alignas(kCacheLine) ArmStats {
 public:
  void count_assigned() { assigned_.add(); }
  void count_refused() { refused_.add(); }
  void count_outcome(ErrorCode code, int64_t total_ns) {
    if (code == ErrorCode::kOk) {
      total_.record(total_ns);
      completed_.add();
    } else if (code == ErrorCode::kCancelled) {
      cancelled_.add();
    } else {
      failed_.add();
    }
  }
  void add_reward(double reward) {
    reward_sum_.fetch_add(reward, std::memory_order_relaxed);
    rewards_.add();
  }

  // Adds what was counted before, by another process say; but for its times, and what was in
  // flight.
  void restore(const ArmStatsSnapshot& before);

  uint64_t assigned() const { return assigned_.read(); }
  uint64_t rewards() const { return rewards_.read(); }
  double reward_sum() const { return reward_sum_.load(std::memory_order_relaxed); }

  // Outcomes before assignments, so that no more seem done than assigned.
  ArmStatsSnapshot read() const;

 private:
  Counter completed_, failed_, cancelled_, refused_, rewards_;
  std::atomic<double> reward_sum_{0};
  Histogram total_;
  alignas(kCacheLine) Counter assigned_;
};

}  // namespace pyruntime
