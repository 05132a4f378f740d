// pyruntime._core: the API of the core, as Python sees it.
#include "bindings/module.h"

namespace py = pybind11;

PYBIND11_MODULE(_core, module) {
  module.doc() = "The C++ core: registry, model versions, devices, protocol calls.";
  pyruntime::bind_errors(module);
  pyruntime::bind_devices(module);
  pyruntime::bind_models(module);
  pyruntime::bind_shared_memory(module);
  pyruntime::bind_infer_call(module);
}
