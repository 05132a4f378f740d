// What the requests to one model have in common while a route is served: the
// policy and what it has counted. Snapshots of the registry share it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.h"
#include "serving/arm_stats.h"
#include "serving/policy.h"
#include "serving/recent_assignments.h"
#include "serving/route_spec.h"
#include "serving/shadow.h"

namespace pyruntime {

struct TrafficStatsSnapshot {
  std::vector<ArmStatsSnapshot> arms;  // as in the spec
  uint64_t fallbacks = 0;              // requests whose arm was not loaded: the first one's
  uint64_t unmatched_rewards = 0;      // for ids that are unknown, forgotten or rewarded
};

// Threads: all calls from any.
class Traffic {
 public:
  // previous: what it replaces, may be null. An experiment of the same name and
  // arms goes on with what it has counted. Throws InvalidInput.
  Traffic(RouteSpec spec, const Traffic* previous);

  const RouteSpec& spec() const { return spec_; }
  // Whether there is anything to know of its requests.
  bool is_tracked() const { return spec_.policy != "fixed" || shadow_ != nullptr; }
  const std::shared_ptr<Shadow>& shadow() const { return shadow_; }  // null: none

  std::size_t choose(std::string_view key) const {
    return policy_->choose(key, counts_->arms, thread_random());
  }
  ArmStats& arm(std::size_t index) { return counts_->arms[index]; }
  void count_fallback() { counts_->fallbacks.add(); }

  // A request with an id was answered by this arm.
  void note_answered(std::string_view request_id, std::size_t arm) {
    if (counts_->recent != nullptr) counts_->recent->note(request_id, arm);
  }
  // Counts a reward, 0 to 1, for that request's arm. ModelNotFound if the route
  // is no experiment, the id is not known (any more) or had its reward.
  Status give_reward(std::string_view request_id, double reward);

  // Adds to each arm what was counted of it before; false if the route is another experiment, or
  // has other arms.
  bool restore(std::string_view experiment,
               const std::map<std::string, ArmStatsSnapshot, std::less<>>& arms);

  TrafficStatsSnapshot stats() const;

 private:
  struct Counts {
    explicit Counts(std::size_t n) : arms(n) {}
    std::vector<ArmStats> arms;
    Counter fallbacks, unmatched_rewards;
    std::unique_ptr<RecentAssignments> recent;  // of experiments
  };

  static std::shared_ptr<Counts> counts_for(const RouteSpec& spec, const Traffic* previous);

  const RouteSpec spec_;
  const std::unique_ptr<const Policy> policy_;
  const std::shared_ptr<Counts> counts_;
  const std::shared_ptr<Shadow> shadow_;
};

}  // namespace pyruntime
