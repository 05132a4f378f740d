#include "serving/traffic.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace pyruntime {
namespace {

bool is_same_experiment(const RouteSpec& a, const RouteSpec& b) {
  const auto has_same_name = [](const ArmSpec& x, const ArmSpec& y) { return x.name == y.name; };
  return !a.name.empty() && a.name == b.name &&
         std::equal(a.arms.begin(), a.arms.end(), b.arms.begin(), b.arms.end(), has_same_name);
}

}  // namespace

Traffic::Traffic(RouteSpec spec, const Traffic* previous)
    : spec_(std::move(spec)),
      policy_(make_policy(spec_)),
      counts_(counts_for(spec_, previous)),
      shadow_(spec_.shadow ? std::make_shared<Shadow>(*spec_.shadow) : nullptr) {}

std::shared_ptr<Traffic::Counts> Traffic::counts_for(const RouteSpec& spec,
                                                     const Traffic* previous) {
  if (previous != nullptr && is_same_experiment(spec, previous->spec_)) return previous->counts_;
  auto counts = std::make_shared<Counts>(spec.arms.size());
  if (!spec.name.empty()) counts->recent = std::make_unique<RecentAssignments>();
  return counts;
}

Status Traffic::give_reward(std::string_view request_id, double reward) {
  if (!(reward >= 0 && reward <= 1)) {
    return {ErrorCode::kInvalidInput, "reward: expected 0 to 1, got " +
                                          (std::isnan(reward) ? "nan" : std::to_string(reward))};
  }
  if (counts_->recent == nullptr) {
    return {ErrorCode::kModelNotFound, "expected an experiment or a bandit, which rewards are for"};
  }
  const auto arm = counts_->recent->take(request_id);
  if (!arm) {
    counts_->unmatched_rewards.add();
    return {ErrorCode::kModelNotFound, "request '" + std::string(request_id) +
                                           "': expected one that experiment '" + spec_.name +
                                           "' answered lately and that " + "has no reward yet"};
  }
  counts_->arms[*arm].add_reward(reward);
  return {};
}

bool Traffic::restore(std::string_view experiment,
                      const std::map<std::string, ArmStatsSnapshot, std::less<>>& arms) {
  const auto is_known = [&](const ArmSpec& arm) { return arms.contains(arm.name); };
  if (spec_.name.empty() || spec_.name != experiment || arms.size() != spec_.arms.size() ||
      !std::all_of(spec_.arms.begin(), spec_.arms.end(), is_known)) {
    return false;
  }
  for (std::size_t i = 0; i < spec_.arms.size(); ++i) {
    counts_->arms[i].restore(arms.find(spec_.arms[i].name)->second);
  }
  return true;
}

TrafficStatsSnapshot Traffic::stats() const {
  TrafficStatsSnapshot snapshot;
  for (const ArmStats& arm : counts_->arms) snapshot.arms.push_back(arm.read());
  snapshot.fallbacks = counts_->fallbacks.read();
  snapshot.unmatched_rewards = counts_->unmatched_rewards.read();
  return snapshot;
}

}  // namespace pyruntime
