// UCB1 (Auer, Cesa-Bianchi and Fischer, 2002): the arm whose reward could be
// the highest, given how often it has been seen.
#include <cmath>

#include "serving/bandit.h"
#include "serving/policy.h"

namespace pyruntime {
namespace {

class Ucb1Policy final : public Policy {
 public:
  std::size_t choose(std::string_view, std::span<const ArmStats> arms, Random&) const override {
    if (const auto fresh = least_tried(arms)) return *fresh;
    double seen = 0;
    for (const ArmStats& arm : arms) seen += static_cast<double>(arm.rewards());
    const double scale = 2 * std::log(seen);
    return best_arm(arms, [&](const ArmStats& arm) {
      return mean_reward(arm) + std::sqrt(scale / static_cast<double>(arm.rewards()));
    });
  }
};

}  // namespace

extern const PolicyEntry kUcb1Policy;
constexpr PolicyEntry kUcb1Policy{
    .name = "ucb1",
    .has_shares = false,
    .max_arms = kMaxArms,
    .make = [](const RouteSpec&) -> std::unique_ptr<Policy> {
      return std::make_unique<Ucb1Policy>();
    },
};

}  // namespace pyruntime
