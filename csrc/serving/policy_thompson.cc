// Thompson sampling with Beta(1, 1) as what is believed of an arm at first. A
// reward between 0 and 1 counts as that much of a success and the rest of a
// failure.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "serving/bandit.h"
#include "serving/policy.h"

namespace pyruntime {
namespace {

// Of the standard normal distribution, by Box and Muller.
double normal(Random& random) {
  const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
  return radius * std::cos(2 * std::numbers::pi * random.uniform());
}

// Of the gamma distribution of `shape`, at least 1, by Marsaglia and Tsang (2000).
double gamma(double shape, Random& random) {
  const double d = shape - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = normal(random);
    const double root = 1 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root;
    const double u = 1 - random.uniform();
    if (std::log(u) < x * x / 2 + d - d * v + d * std::log(v)) return d * v;
  }
}

double beta(double successes, double failures, Random& random) {
  const double a = gamma(1 + successes, random);
  const double b = gamma(1 + failures, random);
  return a / (a + b);
}

class ThompsonPolicy final : public Policy {
 public:
  std::size_t choose(std::string_view, std::span<const ArmStats> arms,
                     Random& random) const override {
    return best_arm(arms, [&](const ArmStats& arm) {
      // Read one after the other: another thread may have given a reward between.
      const double successes = arm.reward_sum();
      const double failures = static_cast<double>(arm.rewards()) - successes;
      return beta(successes, std::max(failures, 0.0), random);
    });
  }
};

}  // namespace

extern const PolicyEntry kThompsonPolicy;
constexpr PolicyEntry kThompsonPolicy{
    .name = "thompson",
    .has_shares = false,
    .max_arms = kMaxArms,
    .make = [](const RouteSpec&) -> std::unique_ptr<Policy> {
      return std::make_unique<ThompsonPolicy>();
    },
};

}  // namespace pyruntime
