#include "serving/arm_stats.h"

namespace pyruntime {

void ArmStats::restore(const ArmStatsSnapshot& before) {
  assigned_.add(before.completed + before.failed + before.cancelled + before.refused);
  completed_.add(before.completed);
  failed_.add(before.failed);
  cancelled_.add(before.cancelled);
  refused_.add(before.refused);
  reward_sum_.fetch_add(before.reward_sum, std::memory_order_relaxed);
  rewards_.add(before.rewards);
}

ArmStatsSnapshot ArmStats::read() const {
  ArmStatsSnapshot snapshot;
  snapshot.completed = completed_.read();
  snapshot.failed = failed_.read();
  snapshot.cancelled = cancelled_.read();
  snapshot.refused = refused_.read();
  snapshot.rewards = rewards_.read();
  snapshot.reward_sum = reward_sum();
  snapshot.total = total_.read();
  snapshot.assigned = assigned_.read();
  return snapshot;
}

}  // namespace pyruntime
