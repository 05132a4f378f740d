// What the tests of the ONNX Runtime engine share: where its library and the
// models are, and tensors made in a line.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "engine/onnx_library.h"
#include "engine/session.h"

namespace pyruntime {

inline std::string model_path(const std::string& name) {
  return (std::filesystem::path(__FILE__).parent_path().parent_path() / "models" / (name + ".onnx"))
      .string();
}

// Configures the library from the environment; false, with a message, where it
// is not given.
inline bool has_onnx_library() {
  const char* const path = std::getenv("PYRUNTIME_ONNXRUNTIME");
  if (path == nullptr || *path == '\0') {
    MESSAGE("skipped: PYRUNTIME_ONNXRUNTIME does not name a libonnxruntime.so");
    return false;
  }
  if (!is_onnx_library_loaded()) configure_onnx_library({.path = path});
  return true;
}

inline std::unique_ptr<Session> load_model(const std::string& name, SessionOptions options = {}) {
  return load_session({.path = model_path(name)}, options);
}

// A tensor over the elements of `values`, which must outlive it.
template <typename T>
Tensor view(DataType type, Shape shape, std::vector<T>& values) {
  Tensor tensor;
  tensor.type = type;
  tensor.shape = shape;
  tensor.data = reinterpret_cast<std::byte*>(values.data());
  return tensor;
}

inline Tensor view(Shape shape, std::vector<float>& values) {
  return view(DataType::kFloat32, shape, values);
}

template <typename T>
std::vector<T> elements(const Tensor& tensor) {
  const auto* first = tensor.data_as<const T>();
  return {first, first + tensor.shape.element_count().value_or(0)};
}

inline std::vector<std::string> strings(const Tensor& tensor) {
  std::vector<std::string> texts;
  for (const StringRef& element : elements<StringRef>(tensor)) texts.emplace_back(element.view());
  return texts;
}

// The Error that `function` throws; one of code kOk when it throws none.
template <typename Function>
Error error_of(Function&& function) {
  try {
    std::forward<Function>(function)();
  } catch (const Error& error) {
    return error;
  }
  return Error(Status());
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace pyruntime
