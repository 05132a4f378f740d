// What the bindings of pyruntime._probe share: times, and the inputs of one request.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "base/clock.h"
#include "base/error.h"
#include "memory/tensor.h"

namespace pyruntime {

inline Nanoseconds to_ns(double seconds) {
  return std::chrono::duration_cast<Nanoseconds>(std::chrono::duration<double>(seconds));
}

inline DataType to_data_type(std::string_view name) {
  for (int i = 0; i < kDataTypeCount; ++i) {
    const auto type = static_cast<DataType>(i);
    if (data_type_name(type) == name) return type;
  }
  throw Error(ErrorCode::kInvalidInput,
              "dtype: expected one such as 'float32', got '" + std::string(name) + "'");
}

// The inputs of one request. Keeps the Python objects whose memory they are.
class Inputs {
 public:
  // Of each, in the signature's order: dtype, shape, and a contiguous buffer or
  // for strings a list of bytes.
  explicit Inputs(
      const std::vector<std::tuple<std::string, std::vector<int64_t>, pybind11::object>>& tensors) {
    for (const auto& [dtype, shape, data] : tensors) {
      Tensor tensor;
      tensor.type = to_data_type(dtype);
      tensor.shape = Shape(shape);
      const std::size_t given =
          tensor.type == DataType::kString ? take_strings(data, &tensor) : take(data, &tensor);
      if (given != tensor.size_bytes()) {
        throw Error(ErrorCode::kInvalidInput, describe(tensor) + ": expected " +
                                                  std::to_string(tensor.size_bytes()) +
                                                  " bytes, got " + std::to_string(given));
      }
      tensors_.push_back(tensor);
    }
  }

  std::span<const Tensor> tensors() const { return tensors_; }

 private:
  std::size_t take(const pybind11::object& data, Tensor* tensor) {
    const pybind11::buffer_info& info = buffers_.emplace_back(pybind11::buffer(data).request());
    tensor->data = static_cast<std::byte*>(info.ptr);
    return static_cast<std::size_t>(info.size * info.itemsize);
  }

  std::size_t take_strings(const pybind11::object& data, Tensor* tensor) {
    std::vector<StringRef>& strings = strings_.emplace_back();
    for (const pybind11::handle item : data) {
      const auto held = pybind11::reinterpret_borrow<pybind11::bytes>(item);  // by `data`
      const std::string_view bytes = held;
      strings.push_back({bytes.data(), bytes.size()});
    }
    objects_.push_back(data);
    tensor->data = reinterpret_cast<std::byte*>(strings.data());
    return strings.size() * sizeof(StringRef);
  }

  std::vector<pybind11::buffer_info> buffers_;
  std::vector<pybind11::object> objects_;
  std::vector<std::vector<StringRef>> strings_;
  std::vector<Tensor> tensors_;
};

// Of the load generators; in load.cc.
void bind_load(pybind11::module_& module);

// Of the lower floors by themselves; in floors.cc.
void bind_floors(pybind11::module_& module);

}  // namespace pyruntime
