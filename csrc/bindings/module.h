// The parts of pyruntime._core, one file each.
#pragma once

#include <memory>
#include <vector>

#include <pybind11/pybind11.h>

#include "base/error.h"
#include "engine/session.h"
#include "serving/model.h"

namespace pyruntime {

void bind_errors(pybind11::module_& module);
void bind_devices(pybind11::module_& module);
void bind_models(pybind11::module_& module);
void bind_infer_call(pybind11::module_& module);

// Of a pyruntime.config.ModelOptions. Throws InvalidInput.
ModelOptions to_model_options(pybind11::handle options);

// Throws the Python exception for `status` unless it is ok.
inline void throw_if_failed(const Status& status) {
  if (!status.ok()) throw Error(status);
}

// `shared`, but released without the GIL, which its destructor may otherwise
// hold for as long as it waits for requests.
template <typename T>
std::shared_ptr<T> released_without_gil(std::shared_ptr<T> shared) {
  T* const object = shared.get();
  return std::shared_ptr<T>(object, [held = std::move(shared)](T*) mutable {
    if (PyGILState_Check() != 0) {
      const pybind11::gil_scoped_release released;
      held.reset();
    } else {
      held.reset();
    }
  });
}

}  // namespace pyruntime
