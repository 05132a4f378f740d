#include "schedule/run_plan.h"

#include <algorithm>

namespace pyruntime {
namespace {

// Whether the declared dimensions and the number of rows give the shape.
bool follows_from_rows(const Signature& signature, const TensorSpec& output) {
  const std::size_t first_fixed = signature.is_batchable ? 1 : 0;
  return output.type != DataType::kString && !output.has_any_rank &&
         output.dims.size() <= Shape::kMaxRank && output.dims.size() >= first_fixed &&
         std::all_of(output.dims.begin() + static_cast<std::ptrdiff_t>(first_fixed),
                     output.dims.end(), [](int64_t dim) { return dim >= 0; });
}

bool is_string(const TensorSpec& spec) { return spec.type == DataType::kString; }

}  // namespace

RunPlan::RunPlan(const Signature& signature)
    : signature_(signature),
      has_strings_(std::any_of(signature.inputs.begin(), signature.inputs.end(), is_string) ||
                   std::any_of(signature.outputs.begin(), signature.outputs.end(), is_string)),
      knows_outputs_(std::all_of(
          signature.outputs.begin(), signature.outputs.end(),
          [&](const TensorSpec& output) { return follows_from_rows(signature, output); })) {}

void RunPlan::shape_outputs(int64_t rows, Device device, std::vector<Tensor>* outputs) const {
  outputs->resize(signature_.outputs.size());
  for (std::size_t i = 0; i < outputs->size(); ++i) {
    const TensorSpec& spec = signature_.outputs[i];
    Tensor& output = (*outputs)[i];
    output.type = spec.type;
    output.device = device;
    output.shape = Shape(spec.dims);
    if (signature_.is_batchable) output.shape[0] = rows;
  }
}

}  // namespace pyruntime
