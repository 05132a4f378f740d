// Regions of memory that clients share.
#include "wire/shared_memory.h"

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "bindings/module.h"

namespace py = pybind11;

namespace pyruntime {
namespace {

py::list list_regions(const SharedMemory& shared, bool of_system) {
  py::list result;
  for (const SharedMemory::Region& region : shared.regions()) {
    if (region.is_of_system() != of_system) continue;
    if (of_system) {
      result.append(py::make_tuple(region.name, region.key, region.offset, region.size_bytes));
    } else {
      result.append(py::make_tuple(region.name, region.device.index, region.size_bytes));
    }
  }
  return result;
}

void add_cuda(SharedMemory& shared, const std::string& name, const py::bytes& raw_handle,
              int device_id, uint64_t byte_size) {
  const std::string_view handle = raw_handle;
  const py::gil_scoped_release released;
  shared.add_device(name, {DeviceKind::kCuda, static_cast<int16_t>(device_id)},
                    std::as_bytes(std::span(handle.data(), handle.size())), byte_size);
}

}  // namespace

void bind_shared_memory(py::module_& module) {
  const py::call_guard<py::gil_scoped_release> released;
  py::class_<SharedMemory, std::shared_ptr<SharedMemory>>(
      module, "SharedMemory", "Regions of memory that clients share, by name.")
      .def(py::init<>())
      .def("has", &SharedMemory::has, py::arg("name"), "Whether a region has that name.")
      .def("add_system", &SharedMemory::add_system, py::arg("name"), py::arg("key"),
           py::arg("offset"), py::arg("byte_size"), released,
           "Map a piece of the system's shared memory. Raises InvalidInput.")
      .def("add_cuda", &add_cuda, py::arg("name"), py::arg("raw_handle"), py::arg("device_id"),
           py::arg("byte_size"),
           "Map memory of a GPU by a cudaIpcMemHandle_t. Raises InvalidInput, Unavailable.")
      .def("remove_system", &SharedMemory::remove_system, py::arg("name"), released,
           "Take off the list; '': all of the system's. Stays mapped while requests use it.")
      .def("remove_cuda", &SharedMemory::remove_device, py::arg("name"), released,
           "The same of GPUs.")
      .def(
          "system_regions", [](const SharedMemory& self) { return list_regions(self, true); },
          "(name, key, offset, byte_size) of each.")
      .def(
          "cuda_regions", [](const SharedMemory& self) { return list_regions(self, false); },
          "(name, device_id, byte_size) of each.");
}

}  // namespace pyruntime
