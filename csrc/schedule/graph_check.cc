#include "schedule/graph_check.h"

#include <algorithm>
#include <functional>
#include <string>

namespace pyruntime {
namespace {

void require(bool holds, const std::string& what) {
  if (!holds) throw Error(ErrorCode::kInvalidInput, "cuda_graphs: " + what);
}

std::string describe(const char* what, const TensorSpec& spec) {
  return std::string(what) + " '" + spec.name + "' is " + spec.to_string();
}

}  // namespace

void check_graphs(const RunPlan& plan, const DeviceBackend& backend,
                  const BatchingOptions& batching, const std::vector<int64_t>& rows) {
  if (rows.empty()) return;
  const Signature& signature = plan.signature();
  require(!backend.is_host_accessible(),
          "expected instances on CUDA devices, got '" + backend.device().name() + "'");
  require(rows.front() >= 1 && std::ranges::is_sorted(rows, std::ranges::less_equal()),
          "expected rows from 1 on, ascending");
  if (signature.is_batchable) {
    require(rows.back() <= batching.most_rows(), "expected at most max_rows, " +
                                                     std::to_string(batching.most_rows()) +
                                                     ", got " + std::to_string(rows.back()));
  } else {
    require(rows.size() == 1 && rows.front() == 1,
            "expected (1), as requests to this model are not batched, got " +
                std::to_string(rows.back()));
  }
  for (const TensorSpec& input : signature.inputs) {
    require(!input.has_any_rank, describe("input", input) + ", which has no fixed shape");
    for (std::size_t axis = signature.is_batchable ? 1 : 0; axis < input.dims.size(); ++axis) {
      require(input.dims[axis] >= 0,
              describe("input", input) + ", where a graph needs all but the rows fixed");
    }
  }
  for (const TensorSpec& output : signature.outputs) {
    require(output.type != DataType::kString, describe("output", output));
    for (std::size_t axis = signature.is_batchable ? 1 : 0; axis < output.dims.size(); ++axis) {
      require(output.dims[axis] >= 0,
              describe("output", output) + ", where a graph needs all but the rows fixed");
    }
  }
  require(plan.knows_outputs(), "the outputs' shapes do not follow from the rows");
}

}  // namespace pyruntime
