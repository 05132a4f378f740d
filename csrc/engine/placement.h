// Which execution provider of an engine runs each node of a model.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pyruntime {

struct PlacedNode {
  std::string name;      // the model's own; empty where it has none
  std::string op_type;   // "Conv", "com.microsoft.FusedMatMul"
  std::string provider;  // the engine's full name
};

// As the engine divided the model when it was loaded, nested graphs included.
// What the engine fuses or adds afterwards stays with the provider of its nodes.
using Placement = std::vector<PlacedNode>;

// What one provider runs.
struct ProviderNodes {
  std::string provider;
  std::size_t count = 0;
  std::vector<std::pair<std::string, std::size_t>> op_types{};  // most frequent first
};

// Of each provider that runs any, those with most nodes first.
std::vector<ProviderNodes> count_by_provider(const Placement& placement);

// "'conv1' (Conv), Relu, ...; in all 70: Relu 50, Conv 20": the first nodes
// that `provider` runs, and where these are not all, how many of each kind.
std::string describe_nodes_of(const Placement& placement, std::string_view provider);

}  // namespace pyruntime
