#include "schedule/run_plan.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

namespace pyruntime {
namespace {

bool is_string(const TensorSpec& spec) { return spec.type == DataType::kString; }

// The first input with a dimension of that name, and the dimension.
std::optional<std::pair<std::size_t, std::size_t>> find_symbol(const Signature& signature,
                                                               std::string_view symbol) {
  if (symbol.empty()) return std::nullopt;
  for (std::size_t input = 0; input < signature.inputs.size(); ++input) {
    const TensorSpec& spec = signature.inputs[input];
    for (std::size_t axis = 0; axis < std::min(spec.dims.size(), spec.symbols.size()); ++axis) {
      if (spec.symbols[axis] == symbol) return std::pair{input, axis};
    }
  }
  return std::nullopt;
}

}  // namespace

RunPlan::RunPlan(const Signature& signature, const std::vector<PaddingOptions>& padding)
    : signature_(signature),
      padding_(padding, signature),
      has_strings_(std::any_of(signature.inputs.begin(), signature.inputs.end(), is_string) ||
                   std::any_of(signature.outputs.begin(), signature.outputs.end(), is_string)),
      knows_outputs_(true) {
  for (std::size_t output = 0; output < signature.outputs.size(); ++output) {
    if (!find_sources(output)) disprove_outputs();
  }
}

bool RunPlan::find_sources(std::size_t output) {
  const TensorSpec& spec = signature_.outputs[output];
  if (is_string(spec) || spec.has_any_rank || spec.dims.size() > Shape::kMaxRank) return false;
  std::size_t axis = 0;
  if (signature_.is_batchable) {
    if (spec.dims.empty()) return false;
    sources_.push_back({output, axis++, 0, 0});
  }
  for (; axis < spec.dims.size(); ++axis) {
    if (spec.dims[axis] >= 0) continue;
    if (axis >= spec.symbols.size()) return false;
    const auto found = find_symbol(signature_, spec.symbols[axis]);
    if (!found) return false;
    sources_.push_back({output, axis, found->first, found->second});
  }
  return true;
}

void RunPlan::shape_outputs(std::span<const Tensor> inputs, Device device,
                            std::vector<Tensor>* outputs) const {
  outputs->resize(signature_.outputs.size());
  for (std::size_t i = 0; i < outputs->size(); ++i) {
    const TensorSpec& spec = signature_.outputs[i];
    Tensor& output = (*outputs)[i];
    output.type = spec.type;
    output.device = device;
    output.shape = Shape(spec.dims);
  }
  for (const Source& source : sources_) {
    (*outputs)[source.output].shape[source.axis] = inputs[source.input].shape[source.input_axis];
  }
}

}  // namespace pyruntime
