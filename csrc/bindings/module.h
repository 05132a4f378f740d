// The parts of pyruntime._core, one file each.
#pragma once

#include <memory>
#include <vector>

#include <pybind11/pybind11.h>

#include "base/error.h"
#include "engine/session.h"
#include "serving/model.h"
#include "serving/registry.h"

namespace pyruntime {

void bind_errors(pybind11::module_& module);
void bind_devices(pybind11::module_& module);
void bind_models(pybind11::module_& module);
void bind_shared_memory(pybind11::module_& module);
void bind_infer_call(pybind11::module_& module);
// What the registry knows of labels and routes.
void bind_routing(pybind11::class_<Registry, std::shared_ptr<Registry>>& registry);

// Of a pyruntime.config.ModelOptions. Throws InvalidInput.
ModelOptions to_model_options(pybind11::handle options);

// Throws the Python exception for `status` unless it is ok.
inline void throw_if_failed(const Status& status) {
  if (!status.ok()) throw Error(status);
}

// (count, sum_ns, mean_us, p50_us, p90_us, p99_us, max_us): a telemetry.LatencyStats.
pybind11::tuple to_latency_tuple(const HistogramSnapshot& latency);
// ((smallest us, records), ...), ascending, only buckets that hold any
pybind11::tuple to_bucket_tuple(const HistogramSnapshot& latency);

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
