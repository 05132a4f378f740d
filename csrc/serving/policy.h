// Chooses among the arms of a route.
//
// A new policy is one file with its PolicyEntry, and a line in the table.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "base/random.h"
#include "serving/arm_stats.h"
#include "serving/route_spec.h"

namespace pyruntime {

// Threads: choose() from any.
class Policy {
 public:
  virtual ~Policy() = default;

  // Index of an arm. key: what a caller's requests have in common; empty: none.
  // arms: what is known of each. Takes no lock and allocates nothing.
  virtual std::size_t choose(std::string_view key, std::span<const ArmStats> arms,
                             Random& random) const = 0;
};

// A line of the table of policies.
struct PolicyEntry {
  std::string_view name;
  bool has_shares;       // those of the arms make kWhole together
  std::size_t max_arms;  // at most
  std::unique_ptr<Policy> (*make)(const RouteSpec& spec);
};

std::span<const PolicyEntry* const> policies();

// Throws InvalidInput for an unknown policy, or arms that do not suit it.
std::unique_ptr<Policy> make_policy(const RouteSpec& spec);

}  // namespace pyruntime
