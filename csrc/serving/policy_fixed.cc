// One arm has all: the latest version, a numbered one, or the one of a label.
#include "serving/policy.h"

namespace pyruntime {
namespace {

class FixedPolicy final : public Policy {
 public:
  std::size_t choose(std::string_view, std::span<const ArmStats>, Random&) const override {
    return 0;
  }
};

}  // namespace

extern const PolicyEntry kFixedPolicy;
constexpr PolicyEntry kFixedPolicy{
    .name = "fixed",
    .has_shares = false,
    .max_arms = 1,
    .make = [](const RouteSpec&) -> std::unique_ptr<Policy> {
      return std::make_unique<FixedPolicy>();
    },
};

}  // namespace pyruntime
