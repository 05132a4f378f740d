// Backends, engines and the engine's library.
#include <string>
#include <utility>
#include <vector>

#include <pybind11/stl.h>

#include "bindings/module.h"
#include "engine/onnx_library.h"
#include "memory/device_cuda.h"

namespace py = pybind11;

namespace pyruntime {
namespace {

py::list list_backends() {
  py::list backends;
  for (const BackendEntry& entry : device_backends()) {
    const int count = entry.device_count();
    std::vector<std::string> devices;
    devices.reserve(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) devices.push_back(entry.describe(static_cast<int16_t>(i)));
    backends.append(
        py::make_tuple(std::string(entry.name), count, entry.why_absent(), std::move(devices)));
  }
  return backends;
}

py::list list_engines() {
  py::list result;
  for (const EngineEntry& entry : engines()) {
    const std::string why_absent = entry.why_absent();
    result.append(py::make_tuple(
        std::string(entry.name), why_absent.empty() ? entry.version() : std::string(), why_absent,
        why_absent.empty() ? entry.providers() : std::vector<std::string>()));
  }
  return result;
}

std::string protocol_name(const std::string& dtype_name) {
  for (int i = 0; i < kDataTypeCount; ++i) {
    const auto type = static_cast<DataType>(i);
    if (data_type_name(type) == dtype_name) return std::string(data_type_protocol_name(type));
  }
  throw Error(ErrorCode::kInvalidInput,
              "dtype: expected one such as 'float32', got '" + dtype_name + "'");
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = __VERSION__;
  info["cxx"] = static_cast<int64_t>(__cplusplus);
#ifdef NDEBUG
  info["assertions"] = false;
#else
  info["assertions"] = true;
#endif
  return info;
}

}  // namespace

void bind_devices(py::module_& module) {
  module.def(
      "backends", &list_backends,
      "Device backends: (name, number of devices, why it is absent or '', what each device is).");
  module.def("configure_cuda_driver", &configure_cuda_driver, py::kw_only(), py::arg("path"),
             "Say which library is the CUDA driver, before its first use; '': the system's. Raises "
             "InvalidInput once another is loaded.");
  module.def("engines", &list_engines,
             "Engines: (name, version, why it is absent or '', execution providers).");
  module.def("data_type_protocol_name", &protocol_name, py::arg("dtype_name"),
             "The Open Inference Protocol's name of a dtype: 'FP32' for 'float32'.");
  module.def("build_info", &build_info, "How the extension was built.");
  module.def(
      "configure_onnx_library",
      [](std::string path, int intra_op_threads, int inter_op_threads, bool allow_spinning) {
        configure_onnx_library({.path = std::move(path),
                                .create_global_pool = false,
                                .global_intra_op_threads = intra_op_threads,
                                .global_inter_op_threads = inter_op_threads,
                                .global_allow_spinning = allow_spinning});
      },
      py::kw_only(), py::arg("path"), py::arg("global_intra_op_threads") = 0,
      py::arg("global_inter_op_threads") = 0, py::arg("global_allow_spinning") = false,
      "Say which ONNX Runtime to load, before the first load. Raises InvalidInput once another "
      "is loaded.");
  module.def("load_onnx_library", &load_onnx_library, py::call_guard<py::gil_scoped_release>(),
             "Load ONNX Runtime now. Raises Unavailable.");
  module.def("is_onnx_library_loaded", &is_onnx_library_loaded, "Whether ONNX Runtime is loaded.");
}

}  // namespace pyruntime
