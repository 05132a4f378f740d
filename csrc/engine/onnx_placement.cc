#include "engine/onnx_placement.h"

#include <cstddef>
#include <span>
#include <string>

namespace pyruntime::ort {
namespace {

// A text that the library keeps.
template <typename Object>
std::string text_of(OrtStatus* (*Api::*call)(const Object*, const char**), std::string_view name,
                    const Object* object) {
  const char* text = nullptr;
  check((api().*call)(object, &text), name);
  return text == nullptr ? std::string() : std::string(text);
}

std::string op_type_of(const OrtEpAssignedNode* node) {
  std::string domain = text_of(&Api::EpAssignedNode_GetDomain, "EpAssignedNode_GetDomain", node);
  std::string type =
      text_of(&Api::EpAssignedNode_GetOperatorType, "EpAssignedNode_GetOperatorType", node);
  return domain.empty() || domain == "ai.onnx" ? type : domain + "." + type;
}

}  // namespace

Placement read_placement(const OrtSession* session) {
  const OrtEpAssignedSubgraph* const* graphs = nullptr;
  std::size_t graph_count = 0;
  check(api().Session_GetEpGraphAssignmentInfo(session, &graphs, &graph_count),
        "Session_GetEpGraphAssignmentInfo");
  Placement placement;
  for (const OrtEpAssignedSubgraph* const graph : std::span(graphs, graph_count)) {
    const std::string provider =
        text_of(&Api::EpAssignedSubgraph_GetEpName, "EpAssignedSubgraph_GetEpName", graph);
    const OrtEpAssignedNode* const* nodes = nullptr;
    std::size_t node_count = 0;
    check(api().EpAssignedSubgraph_GetNodes(graph, &nodes, &node_count),
          "EpAssignedSubgraph_GetNodes");
    for (const OrtEpAssignedNode* const node : std::span(nodes, node_count)) {
      placement.push_back(
          {.name = text_of(&Api::EpAssignedNode_GetName, "EpAssignedNode_GetName", node),
           .op_type = op_type_of(node),
           .provider = provider});
    }
  }
  return placement;
}

}  // namespace pyruntime::ort
