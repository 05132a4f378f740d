#include "serving/arm_stats.h"

namespace pyruntime {

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
