// The arm with the highest mean reward, but for a share `epsilon` of requests,
// which explore at random.
#include "serving/bandit.h"
#include "serving/policy.h"

namespace pyruntime {
namespace {

class EpsilonGreedyPolicy final : public Policy {
 public:
  explicit EpsilonGreedyPolicy(double epsilon) : epsilon_(epsilon) {}

  std::size_t choose(std::string_view, std::span<const ArmStats> arms,
                     Random& random) const override {
    if (random.uniform() < epsilon_) return random.below(static_cast<uint32_t>(arms.size()));
    if (const auto fresh = least_tried(arms)) return *fresh;
    return best_arm(arms, [](const ArmStats& arm) { return mean_reward(arm); });
  }

 private:
  const double epsilon_;
};

}  // namespace

extern const PolicyEntry kEpsilonGreedyPolicy;
constexpr PolicyEntry kEpsilonGreedyPolicy{
    .name = "epsilon_greedy",
    .has_shares = false,
    .max_arms = kMaxArms,
    .make = [](const RouteSpec& spec) -> std::unique_ptr<Policy> {
      if (!(spec.epsilon >= 0 && spec.epsilon <= 1)) {
        throw Error(ErrorCode::kInvalidInput,
                    "route: epsilon: expected 0 to 1, got " + std::to_string(spec.epsilon));
      }
      return std::make_unique<EpsilonGreedyPolicy>(spec.epsilon);
    },
};

}  // namespace pyruntime
