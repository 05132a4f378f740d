#include "engine/placement.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <tuple>

namespace pyruntime {
namespace {

constexpr std::size_t kMostNamed = 10;

std::string name_of(const PlacedNode& node) {
  if (node.name.empty()) return node.op_type;
  return "'" + node.name + "' (" + node.op_type + ")";
}

}  // namespace

std::vector<ProviderNodes> count_by_provider(const Placement& placement) {
  std::map<std::string_view, std::map<std::string_view, std::size_t>> counts;
  for (const PlacedNode& node : placement) ++counts[node.provider][node.op_type];

  std::vector<ProviderNodes> result;
  for (const auto& [provider, of_it] : counts) {
    ProviderNodes& nodes = result.emplace_back(ProviderNodes{.provider = std::string(provider)});
    for (const auto& [op_type, count] : of_it) {
      nodes.op_types.emplace_back(op_type, count);
      nodes.count += count;
    }
    // By name where they are equal.
    std::sort(nodes.op_types.begin(), nodes.op_types.end(), [](const auto& a, const auto& b) {
      return std::tie(b.second, a.first) < std::tie(a.second, b.first);
    });
  }
  std::sort(result.begin(), result.end(), [](const ProviderNodes& a, const ProviderNodes& b) {
    return std::tie(b.count, a.provider) < std::tie(a.count, b.provider);
  });
  return result;
}

std::string describe_nodes_of(const Placement& placement, std::string_view provider) {
  Placement nodes;
  std::copy_if(placement.begin(), placement.end(), std::back_inserter(nodes),
               [&](const PlacedNode& node) { return node.provider == provider; });
  std::string text;
  for (std::size_t i = 0; i < std::min(nodes.size(), kMostNamed); ++i) {
    text.append(i == 0 ? "" : ", ").append(name_of(nodes[i]));
  }
  if (nodes.size() <= kMostNamed) return text;

  text += ", ...; in all " + std::to_string(nodes.size()) + ":";
  const ProviderNodes counted = count_by_provider(nodes).front();
  for (std::size_t i = 0; i < counted.op_types.size(); ++i) {
    const auto& [op_type, count] = counted.op_types[i];
    text.append(i == 0 ? " " : ", ").append(op_type).append(" ").append(std::to_string(count));
  }
  return text;
}

}  // namespace pyruntime
