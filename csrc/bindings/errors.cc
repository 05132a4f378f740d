// Errors of the core as Python exceptions.
#include <exception>

#include "bindings/module.h"
#include "bindings/python_errors.h"

namespace py = pybind11;

namespace pyruntime {

void bind_errors(py::module_& module) {
  (void)module;
  // NOLINTNEXTLINE(performance-unnecessary-value-param): pybind11's signature
  py::register_local_exception_translator([](std::exception_ptr caught) {
    try {
      if (caught) std::rethrow_exception(caught);
    } catch (const PythonErrorIsSet&) {
      return;
    } catch (const Error& error) {
      set_python_error(error.status());
    }
  });
}

}  // namespace pyruntime
