#include "serving/policy.h"

#include <array>
#include <set>
#include <string>

#include "base/error.h"

namespace pyruntime {

// Each in the file of its name.
extern const PolicyEntry kFixedPolicy;
extern const PolicyEntry kSplitPolicy;
extern const PolicyEntry kEpsilonGreedyPolicy;
extern const PolicyEntry kUcb1Policy;
extern const PolicyEntry kThompsonPolicy;

namespace {

constexpr std::array kPolicies{&kFixedPolicy, &kSplitPolicy, &kEpsilonGreedyPolicy, &kUcb1Policy,
                               &kThompsonPolicy};

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::kInvalidInput, "route: " + what);
}

void check_arms(const RouteSpec& spec, const PolicyEntry& entry) {
  if (spec.arms.empty() || spec.arms.size() > entry.max_arms) {
    refuse("expected 1 to " + std::to_string(entry.max_arms) + " arms for policy '" + spec.policy +
           "', got " + std::to_string(spec.arms.size()));
  }
  std::set<std::string_view> names;
  int sum = 0;
  for (const ArmSpec& arm : spec.arms) {
    if (!names.insert(arm.name).second) refuse("arm '" + arm.name + "' is given twice");
    if (arm.share < 0) refuse("arm '" + arm.name + "': expected a share of at least 0");
    sum += arm.share;
  }
  if (entry.has_shares && sum != kWhole) {
    refuse("expected shares of " + std::to_string(kWhole) + " thousandths together, got " +
           std::to_string(sum));
  }
}

}  // namespace

std::span<const PolicyEntry* const> policies() { return kPolicies; }

std::unique_ptr<Policy> make_policy(const RouteSpec& spec) {
  std::string known;
  for (const PolicyEntry* entry : kPolicies) {
    if (entry->name == spec.policy) {
      check_arms(spec, *entry);
      return entry->make(spec);
    }
    known += (known.empty() ? "'" : ", '") + std::string(entry->name) + "'";
  }
  refuse("expected policy " + known + ", got '" + spec.policy + "'");
}

}  // namespace pyruntime
