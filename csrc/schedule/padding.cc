#include "schedule/padding.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>

#include "memory/box_copy.h"
#include "memory/element.h"

namespace pyruntime {

struct Padding::Dim {
  Dim(const PaddingOptions& options) : name(options.dim), sizes(options.sizes, options.largest) {}
  const std::string name;
  std::vector<Place> inputs;
  PaddingSizes sizes;
};

namespace {

[[noreturn]] void refuse(const std::string& dim, const std::string& what) {
  throw Error(ErrorCode::kInvalidInput, "batching.padding '" + dim + "': " + what);
}

// "NAME.AXIS", where one of `specs` has that name and a dynamic dimension there.
template <typename Found>
bool find_place(const std::vector<TensorSpec>& specs, std::string_view text, Found&& found) {
  const std::size_t dot = text.rfind('.');
  if (dot == std::string_view::npos) return false;
  std::size_t axis = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + dot + 1, end, axis);
  if (error != std::errc() || stop != end) return false;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].name != text.substr(0, dot)) continue;
    if (axis >= specs[i].dims.size() || specs[i].dims[axis] >= 0) return false;
    found(i, axis);
    return true;
  }
  return false;
}

template <typename Found>
bool find_symbol(const std::vector<TensorSpec>& specs, std::string_view symbol, Found&& found) {
  bool is_found = false;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    for (std::size_t axis = 0; axis < specs[i].symbols.size(); ++axis) {
      if (specs[i].symbols[axis] != symbol || symbol.empty()) continue;
      found(i, axis);
      is_found = true;
    }
  }
  return is_found;
}

std::string free_dims(const Signature& signature) {
  std::string text;
  for (const TensorSpec& spec : signature.inputs) {
    for (std::size_t axis = 1; axis < spec.dims.size(); ++axis) {
      if (spec.dims[axis] >= 0) continue;
      const bool has_name = axis < spec.symbols.size() && !spec.symbols[axis].empty();
      const std::string name =
          has_name ? spec.symbols[axis] : spec.name + "." + std::to_string(axis);
      if (("', '" + text + "', '").find("', '" + name + "', '") != std::string::npos) continue;
      text += (text.empty() ? "" : "', '") + name;
    }
  }
  return text.empty() ? "none" : "'" + text + "'";
}

}  // namespace

Padding::Padding(const std::vector<PaddingOptions>& options, const Signature& signature)
    : signature_(signature),
      input_axes_(signature.inputs.size()),
      output_axes_(signature.outputs.size()),
      fills_(signature.inputs.size()) {
  if (options.empty()) return;
  if (!signature.is_batchable) {
    refuse(
        options.front().dim,
        "expected a model whose rows can be batched: dimension 0 of all inputs and outputs free");
  }
  if (options.size() > kMostDims) {
    refuse(options[kMostDims].dim, "expected at most " + std::to_string(kMostDims) + " dimensions");
  }
  for (const PaddingOptions& option : options) {
    const std::size_t index = dims_.size();
    Dim& dim = *dims_.emplace_back(std::make_unique<Dim>(option));
    const auto add_input = [&](std::size_t input, std::size_t axis) {
      if (axis == 0) refuse(option.dim, "expected a dimension other than the rows");
      for (const Axis& taken : input_axes_[input]) {
        if (taken.axis == axis) refuse(option.dim, "is padded twice");
      }
      dim.inputs.push_back({input, axis});
      input_axes_[input].push_back({axis, index});
    };
    if (!find_symbol(signature.inputs, option.dim, add_input) &&
        !find_place(signature.inputs, option.dim, add_input)) {
      refuse(option.dim, "expected a free dimension of the inputs (" + free_dims(signature) +
                             "), got none of that name");
    }
    const auto add_output = [&](std::size_t output, std::size_t axis) {
      const TensorSpec& spec = signature.outputs[output];
      if (axis == 0) refuse(option.dim, "expected outputs' dimensions other than the rows");
      if (spec.type == DataType::kString) {
        refuse(option.dim, "expected outputs other than strings, got '" + spec.name + "'");
      }
      output_axes_[output].push_back({axis, index});
    };
    find_symbol(signature.outputs, option.dim, add_output);
    for (const std::string& place : option.outputs) {
      if (!find_place(signature.outputs, place, add_output)) {
        refuse(option.dim,
               "outputs: expected OUTPUT.AXIS of a free dimension, got '" + place + "'");
      }
    }
    if (!std::ranges::is_sorted(option.sizes, std::ranges::less_equal()) ||
        (!option.sizes.empty() && option.sizes.front() < 1)) {
      refuse(option.dim, "sizes: expected ascending ones of at least 1");
    }
    if (option.largest < 0) refuse(option.dim, "largest: expected 0 (no limit) or more");
    for (const auto& [name, value] : option.values) {
      const auto input = signature.find_input(name);
      if (!input || std::ranges::none_of(
                        dim.inputs, [&](const Place& place) { return place.tensor == *input; })) {
        refuse(option.dim, "values: expected an input with this dimension, got '" + name + "'");
      }
    }
    for (const Place& place : dim.inputs) {
      const TensorSpec& spec = signature.inputs[place.tensor];
      double value = option.value;
      for (const auto& [name, its_value] : option.values) {
        if (name == spec.name) value = its_value;
      }
      if (!write_element(spec.type, value, fills_[place.tensor].data())) {
        refuse(option.dim, "expected a value of " + std::string(data_type_name(spec.type)) +
                               " for input '" + spec.name + "', got " + std::to_string(value));
      }
    }
  }
}

Padding::~Padding() = default;

int64_t Padding::length_of(std::size_t dim, const std::vector<Tensor>& inputs) const {
  const Place& place = dims_[dim]->inputs.front();
  return inputs[place.tensor].shape[place.axis];
}

Status Padding::check(const std::vector<Tensor>& inputs) const {
  for (std::size_t d = 0; d < dims_.size(); ++d) {
    const int64_t length = length_of(d, inputs);
    for (const Place& place : dims_[d]->inputs) {
      const int64_t other = inputs[place.tensor].shape[place.axis];
      if (other == length) continue;
      const auto name = [&](const Place& at) {
        return "'" + signature_.inputs[at.tensor].name + "'";
      };
      return {ErrorCode::kInvalidInput,
              "input " + name(place) + ": expected " + std::to_string(length) + " along '" +
                  dims_[d]->name + "' (dimension " + std::to_string(place.axis) + ") as in input " +
                  name(dims_[d]->inputs.front()) + ", got " + std::to_string(other)};
    }
  }
  return {};
}

Padding::Sizes Padding::choose(const std::vector<Tensor>& inputs) {
  Sizes sizes{};
  for (std::size_t d = 0; d < dims_.size(); ++d) {
    sizes[d] = dims_[d]->sizes.pad(length_of(d, inputs));
  }
  return sizes;
}

Shape Padding::padded(std::size_t input, const Shape& shape, const Sizes& sizes) const {
  Shape result = shape;
  for (const Axis& axis : input_axes_[input]) result[axis.axis] = sizes[axis.dim];
  return result;
}

void Padding::fill(std::size_t input, const Tensor& from, const Shape& to, std::byte* rows) const {
  const std::size_t element_bytes = element_size_bytes(from.type);
  Shape shape = to;
  shape[0] = from.shape[0];
  if (shape == from.shape) {
    std::memcpy(rows, from.data, from.size_bytes());
    return;
  }
  fill(input, element_bytes,
       static_cast<std::size_t>(shape.element_count().value_or(0)) * element_bytes, rows);
  copy_box(from.data, from.shape, rows, shape, from.shape, element_bytes);
}

void Padding::fill(std::size_t input, std::size_t element_bytes, std::size_t size_bytes,
                   std::byte* rows) const {
  const std::byte* const value = fills_[input].data();
  const bool is_one_byte =
      std::all_of(value, value + element_bytes, [&](std::byte byte) { return byte == value[0]; });
  if (is_one_byte) {
    std::memset(rows, static_cast<int>(value[0]), size_bytes);
  } else {
    for (std::size_t at = 0; at < size_bytes; at += element_bytes) {
      std::memcpy(rows + at, value, element_bytes);
    }
  }
}

Shape Padding::cut(std::size_t output, const Shape& batch, const std::vector<Tensor>& inputs,
                   const std::vector<Tensor>& batch_inputs) const {
  Shape shape = batch;
  for (const Axis& axis : output_axes_[output]) {
    // Only what has the padded size: another one the model has chosen itself.
    if (axis.axis < shape.rank() && shape[axis.axis] == length_of(axis.dim, batch_inputs)) {
      shape[axis.axis] = length_of(axis.dim, inputs);
    }
  }
  return shape;
}

void Padding::forbid(const std::vector<Tensor>& inputs, const std::vector<Tensor>& batch_inputs) {
  for (std::size_t d = 0; d < dims_.size(); ++d) {
    const int64_t size = length_of(d, batch_inputs);
    if (size != length_of(d, inputs)) dims_[d]->sizes.forbid(size);
  }
}

std::vector<std::vector<int64_t>> Padding::sizes() const {
  std::vector<std::vector<int64_t>> sizes;
  sizes.reserve(dims_.size());
  for (const auto& dim : dims_) sizes.push_back(dim->sizes.sizes());
  return sizes;
}

}  // namespace pyruntime
