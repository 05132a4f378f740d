#include <doctest/doctest.h>

#include "engine/placement.h"

namespace pyruntime {
namespace {

TEST_CASE("nodes are counted by provider and kind, the most frequent first") {
  const Placement placement{{"a", "Relu", "CPU"},
                            {"b", "Conv", "CUDA"},
                            {"c", "Relu", "CUDA"},
                            {"d", "Conv", "CUDA"},
                            {"", "Add", "CUDA"}};
  const auto counted = count_by_provider(placement);
  REQUIRE(counted.size() == 2);
  CHECK(counted[0].provider == "CUDA");
  CHECK(counted[0].count == 4);
  using Counts = std::vector<std::pair<std::string, std::size_t>>;
  CHECK(counted[0].op_types == Counts{{"Conv", 2}, {"Add", 1}, {"Relu", 1}});
  CHECK(counted[1].op_types == Counts{{"Relu", 1}});
  CHECK(count_by_provider({}).empty());
}

TEST_CASE("few nodes are all named, many are counted too") {
  Placement placement{{"a", "Relu", "CPU"}, {"b", "Conv", "CUDA"}, {"", "Add", "CPU"}};
  CHECK(describe_nodes_of(placement, "CPU") == "'a' (Relu), Add");
  CHECK(describe_nodes_of(placement, "ROCm").empty());
  for (int i = 0; i < 20; ++i) placement.push_back({"n" + std::to_string(i), "Gather", "CPU"});
  const std::string text = describe_nodes_of(placement, "CPU");
  CHECK(text.find("'n7' (Gather), ...; in all 22: Gather 20, Add 1, Relu 1") != std::string::npos);
  CHECK(text.find("'n8'") == std::string::npos);
}

}  // namespace
}  // namespace pyruntime
