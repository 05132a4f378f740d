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

InputCheck::InputCheck(const Signature& signature, std::optional<Device> device)
    : signature_(signature), device_(device) {
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
    if (const Status placed = check_place(tensor.device); !placed.ok()) {
      return {placed.code(), "input '" + spec.name + "': " + placed.message()};
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

Status InputCheck::check_place(Device device) const {
  if (device == Device{} || device == device_) return {};
  return {ErrorCode::kInvalidInput, "expected memory on 'cpu'" +
                                        (device_ ? " or '" + device_->name() + "'" : "") +
                                        ", got '" + device.name() + "'"};
}

Status InputCheck::check_outputs(const Request& request) const {
  if (!device_) {
    return {ErrorCode::kInvalidInput,
            "outputs: expected on 'cpu', as the model does not run on one GPU; they were asked to "
            "stay on the device"};
  }
  for (std::size_t i = 0; i < signature_.outputs.size(); ++i) {
    const Tensor* const target = request.target_of(i);
    if (target == nullptr || target->device == device_) continue;
    return {ErrorCode::kInvalidInput, "output '" + signature_.outputs[i].name +
                                          "': expected memory on '" + device_->name() + "', got '" +
                                          target->device.name() + "'"};
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
