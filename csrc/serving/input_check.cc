#include "serving/input_check.h"

#include <algorithm>
#include <limits>
#include <string>

namespace pyruntime {
namespace {

std::string listed(const std::vector<TensorSpec>& specs) {
  std::string text;
  for (const TensorSpec& spec : specs) {
    if (!text.empty()) text += ", ";
    text += "'" + spec.name + "'";
  }
  return text;
}

Status mismatch(const TensorSpec& spec, const Tensor& tensor) {
  return {ErrorCode::kInvalidInput,
          "input '" + spec.name + "': expected " + spec.to_string() + ", got " + describe(tensor)};
}

bool has_shape(const TensorSpec& spec, const Shape& shape) {
  if (spec.has_any_rank) return true;
  if (shape.rank() != spec.dims.size()) return false;
  for (std::size_t i = 0; i < spec.dims.size(); ++i) {
    if (spec.dims[i] >= 0 && spec.dims[i] != shape[i]) return false;
  }
  return true;
}

}  // namespace

InputCheck::InputCheck(const Signature& signature) : signature_(signature) {
  for (const TensorSpec& spec : signature.inputs) expected_.emplace_back(spec);
}

InputCheck::Expected::Expected(const TensorSpec& spec) : type(spec.type), dims(spec.dims) {
  if (spec.has_any_rank || dims.empty()) return;
  rank = dims.size();
  int64_t row_elements = 1;
  for (const int64_t dim : dims.subspan(1)) {
    if (dim < 0 || __builtin_mul_overflow(row_elements, std::max<int64_t>(dim, 1), &row_elements)) {
      return;
    }
  }
  const int64_t largest = std::numeric_limits<int64_t>::max() / row_elements;
  if (dims[0] > largest) return;
  least_rows = std::max<int64_t>(dims[0], 0);
  most_rows = dims[0] < 0 ? largest : dims[0];
}

Status InputCheck::compare(const Request& request, int64_t* rows) const {
  *rows = 1;
  for (std::size_t i = 0; i < signature_.inputs.size(); ++i) {
    const TensorSpec& spec = signature_.inputs[i];
    const Tensor& tensor = request.inputs[i];
    if (tensor.data == nullptr) {
      return {ErrorCode::kInvalidInput,
              "input '" + spec.name + "' is missing: expected " + spec.to_string()};
    }
    if (tensor.device != Device{}) {
      return {ErrorCode::kInvalidInput, "input '" + spec.name +
                                            "': expected memory on 'cpu', got '" +
                                            tensor.device.name() + "'"};
    }
    if (tensor.type != spec.type || !has_shape(spec, tensor.shape)) return mismatch(spec, tensor);
    if (!tensor.shape.element_count()) {
      return {ErrorCode::kInvalidInput, "input '" + spec.name + "': the shape " +
                                            tensor.shape.to_string() +
                                            " is negative or has too many elements"};
    }
    if (!signature_.is_batchable) continue;
    if (i == 0) {
      *rows = tensor.shape[0];
    } else if (tensor.shape[0] != *rows) {
      return {ErrorCode::kInvalidInput, "input '" + spec.name + "': expected " +
                                            std::to_string(*rows) + " rows as in input '" +
                                            signature_.inputs[0].name + "', got " +
                                            std::to_string(tensor.shape[0])};
    }
  }
  return {};
}

Status unknown_input(const Signature& signature, std::string_view name) {
  return {ErrorCode::kInvalidInput,
          "input '" + std::string(name) + "' is unknown: expected " + listed(signature.inputs)};
}

Status unknown_output(const Signature& signature, std::string_view name) {
  return {ErrorCode::kInvalidInput,
          "output '" + std::string(name) + "' is unknown: expected " + listed(signature.outputs)};
}

}  // namespace pyruntime
