// What policies that learn from rewards have in common.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "serving/arm_stats.h"

namespace pyruntime {

inline double mean_reward(const ArmStats& arm) {
  const auto rewards = static_cast<double>(arm.rewards());
  return rewards == 0 ? 0 : arm.reward_sum() / rewards;
}

// Of those arms without any reward yet, the one that has been tried least:
// rewards come later than the requests that they are for.
inline std::optional<std::size_t> least_tried(std::span<const ArmStats> arms) {
  std::optional<std::size_t> least;
  for (std::size_t i = 0; i < arms.size(); ++i) {
    if (arms[i].rewards() != 0) continue;
    if (!least || arms[i].assigned() < arms[*least].assigned()) least = i;
  }
  return least;
}

// The arm for which `value` is highest.
template <typename Value>
std::size_t best_arm(std::span<const ArmStats> arms, Value&& value) {
  std::size_t best = 0;
  double best_value = value(arms[0]);
  for (std::size_t i = 1; i < arms.size(); ++i) {
    const double candidate = value(arms[i]);
    if (candidate > best_value) {
      best = i;
      best_value = candidate;
    }
  }
  return best;
}

}  // namespace pyruntime
