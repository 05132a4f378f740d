// Model versions and the registry.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/stl.h>
#include <unistd.h>

#include "bindings/module.h"
#include "bindings/shared_capsule.h"

namespace py = pybind11;

namespace pyruntime {
namespace {

using ModelVersionPtr = std::shared_ptr<ModelVersion>;
using RegistryPtr = std::shared_ptr<Registry>;

py::tuple to_tuple(const std::vector<TensorSpec>& specs) {
  py::tuple result(specs.size());
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const TensorSpec& spec = specs[i];
    std::vector<std::string> symbols = spec.symbols;
    symbols.resize(spec.dims.size());
    result[i] = py::make_tuple(spec.name, std::string(data_type_name(spec.type)),
                               py::tuple(py::cast(spec.dims)), py::tuple(py::cast(symbols)));
  }
  return result;
}

std::vector<int64_t> to_vector(const Shape& shape) {
  return {shape.dims().begin(), shape.dims().end()};
}

py::dict to_dict(const SchedulerStatsSnapshot& stats, const BufferPool::Stats& pool) {
  py::dict result;
  result["accepted"] = stats.accepted;
  result["completed"] = stats.completed;
  result["failed"] = stats.failed;
  result["cancelled"] = stats.cancelled;
  result["expired"] = stats.expired;
  result["rejected"] = stats.rejected;
  result["rows"] = stats.rows;
  result["batches"] = stats.batches;
  result["overlapped"] = stats.overlapped;
  result["replayed"] = stats.replayed;
  result["retried"] = stats.retried;
  result["inputs_copied"] = stats.inputs_copied;
  result["replaced"] = stats.replaced;
  result["stuck"] = stats.stuck;
  result["stuck_since_unix_ms"] = stats.stuck_since_unix_ms;
  result["last_completed_unix_ms"] = stats.last_completed_unix_ms;
  result["queue"] = to_latency_tuple(stats.queue);
  result["gather"] = to_latency_tuple(stats.gather);
  result["run"] = to_latency_tuple(stats.run);
  result["scatter"] = to_latency_tuple(stats.scatter);
  result["total"] = to_latency_tuple(stats.total);
  result["failed_total"] = to_latency_tuple(stats.failed_total);
  py::tuple sizes(stats.by_batch_rows.size());
  for (std::size_t i = 0; i < stats.by_batch_rows.size(); ++i) {
    const BatchSizeStats& size = stats.by_batch_rows[i];
    sizes[i] = py::make_tuple(size.rows, size.count, size.gather_ns, size.run_ns, size.scatter_ns);
  }
  result["by_batch_rows"] = sizes;
  result["pool"] = py::make_tuple(pool.held_bytes, pool.used_bytes, pool.peak_used_bytes,
                                  pool.allocations, pool.system_allocations, pool.exhaustions);
  return result;
}

// Of each shape: (shapes of the inputs without their rows, limit, ((rows, us, count), ...))
py::tuple to_tuple(const std::vector<Batcher::BucketCost>& costs) {
  py::list result;
  for (const Batcher::BucketCost& cost : costs) {
    py::list shapes;
    for (const Shape& tail : cost.tails) shapes.append(py::tuple(py::cast(to_vector(tail))));
    py::list points;
    for (const CostModel::Point& point : cost.points) {
      points.append(py::make_tuple(point.rows, point.ns / 1e3, point.count));
    }
    result.append(py::make_tuple(py::tuple(shapes), cost.limit, py::tuple(points)));
  }
  return py::tuple(result);
}

// (device, shapes of the inputs without their rows, bytes, (us, ...), name of the chosen), ...
py::tuple to_tuple(const std::vector<DeviceOverlap>& overlaps) {
  py::list result;
  for (const auto& [device, measured] : overlaps) {
    py::list shapes;
    for (const Shape& tail : measured.tails) shapes.append(py::tuple(py::cast(to_vector(tail))));
    py::list times;
    for (const Nanoseconds time : measured.times) {
      times.append(static_cast<double>(time.count()) / 1e3);
    }
    const auto chosen = static_cast<std::size_t>(measured.chosen);
    result.append(py::make_tuple(device.name(), py::tuple(shapes), measured.payload_bytes,
                                 py::tuple(times), std::string(kOverlapNames[chosen])));
  }
  return py::tuple(result);
}

// Of each group of instances: (device, ((name, op_type, provider), ...))
py::tuple placed_nodes(const ModelVersion& model) {
  py::list result;
  for (const DevicePlacement& group : model.placement()) {
    py::list nodes;
    for (const PlacedNode& node : group.nodes) {
      nodes.append(py::make_tuple(node.name, node.op_type, node.provider));
    }
    result.append(py::make_tuple(group.device.name(), py::tuple(nodes)));
  }
  return py::tuple(result);
}

// (device, provider, nodes, ((op_type, nodes), ...)), ...
py::tuple placed_counts(const ModelVersion& model) {
  py::list result;
  for (const DevicePlacement& group : model.placement()) {
    for (const ProviderNodes& nodes : group.by_provider) {
      result.append(py::make_tuple(group.device.name(), nodes.provider, nodes.count,
                                   py::tuple(py::cast(nodes.op_types))));
    }
  }
  return py::tuple(result);
}

ModelVersionPtr load_model(std::string name, int64_t version, const std::string& path,
                           const std::optional<py::bytes>& data, py::handle options, bool gently) {
  ModelOptions model_options = to_model_options(options);
  model_options.load_gently = gently;
  ModelSource source;
  source.path = path;
  if (data) {
    const std::string_view bytes = *data;
    source.bytes = std::as_bytes(std::span(bytes.data(), bytes.size()));
  }
  const py::gil_scoped_release released;
  return released_without_gil(ModelVersion::load(std::move(name), version, source, model_options));
}

// A registry whose destructor, which waits for requests, runs without the GIL.
// A forked child has none of the threads that it would wait for, so that the
// child leaves it alone.
RegistryPtr make_registry() {
  return {new Registry, [pid = ::getpid()](Registry* registry) {
            if (::getpid() != pid) return;
            if (PyGILState_Check() == 0) {
              delete registry;
              return;
            }
            const py::gil_scoped_release released;
            delete registry;
          }};
}

ModelVersionPtr find(const Registry& registry, std::string_view name,
                     std::optional<int64_t> version) {
  ModelVersionPtr model;
  throw_if_failed(registry.find(name, version.value_or(kLatest), &model));
  return model;
}

void bind_model_version(py::module_& module) {
  using Released = py::call_guard<py::gil_scoped_release>;
  py::class_<ModelVersion, ModelVersionPtr>(module, "ModelVersion",
                                            "One loaded version of a model.")
      .def_static("load", &load_model, py::arg("name"), py::arg("version"), py::kw_only(),
                  py::arg("path") = "", py::arg("data") = py::none(), py::arg("options"),
                  py::arg("gently") = false,
                  "Load a model from a file or from bytes; options: a config.ModelOptions. Raises "
                  "InvalidInput, Unavailable, Unimplemented or EngineError.")
      .def_static(
          "from_capsule",
          [](const py::capsule& capsule) { return from_capsule<ModelVersion>(capsule.ptr()); },
          py::arg("capsule"), "The version that `capsule` shares.")
      .def_property_readonly("name", &ModelVersion::name)
      .def_property_readonly("version", &ModelVersion::version)
      .def_property_readonly(
          "inputs", [](const ModelVersion& model) { return to_tuple(model.signature().inputs); },
          "Of each: (name, dtype, shape with -1 for any, symbols).")
      .def_property_readonly(
          "outputs", [](const ModelVersion& model) { return to_tuple(model.signature().outputs); },
          "As inputs.")
      .def_property_readonly(
          "is_batchable", [](const ModelVersion& model) { return model.signature().is_batchable; })
      .def_property_readonly("metadata",
                             [](const ModelVersion& model) { return model.signature().metadata; })
      .def_property_readonly(
          "placement", &placed_nodes,
          "Of each group of instances: (device, ((name, op_type, provider), ...)).")
      .def_property_readonly("is_accepting", &ModelVersion::is_accepting)
      .def_property_readonly("outstanding", &ModelVersion::outstanding,
                             "Requests that are accepted and not done.")
      .def_property_readonly(
          "capsule",
          [](const ModelVersionPtr& model) {
            return py::reinterpret_steal<py::capsule>(to_capsule(model));
          },
          "Shares the version with pyruntime._hot.")
      .def(
          "warm_up",
          [](ModelVersion& model, int64_t rows, int runs) {
            Status status;
            {
              const py::gil_scoped_release released;
              status = model.warm_up(rows, runs);
            }
            throw_if_failed(status);
          },
          py::arg("rows"), py::arg("runs"))
      .def(
          "stats",
          [](const ModelVersion& model) {
            py::dict result = to_dict(model.stats(), model.pool_stats());
            result["costs"] = to_tuple(model.costs());
            result["overlaps"] = to_tuple(model.overlaps());
            result["placement"] = placed_counts(model);
            return result;
          },
          "Counters and latencies; see telemetry.ModelStats.")
      .def(
          "total_buckets", [](const ModelVersion& model) { return to_bucket_tuple(model.total()); },
          "Of the time of completed requests: ((smallest us, requests), ...), ascending.")
      .def("stop_accepting", &ModelVersion::stop_accepting, Released(),
           "Refuse new requests from now on.")
      .def("close", &ModelVersion::close, Released(),
           "Refuse new requests and wait for the accepted ones.");
}

void bind_registry(py::module_& module) {
  py::class_<Registry, RegistryPtr> registry(module, "Registry",
                                             "Names to models: what is served now.");
  bind_routing(registry);
  registry.def(py::init(&make_registry))
      .def("add", &Registry::add, py::arg("model"), py::call_guard<py::gil_scoped_release>(),
           "Serve `model`. Raises InvalidInput if that version is served already.")
      .def("exchange", &Registry::exchange, py::arg("model"),
           py::call_guard<py::gil_scoped_release>(),
           "Serve `model` in place of that version; return the one that gave way, or None.")
      .def("remove", &Registry::remove, py::arg("name"), py::arg("version"),
           py::call_guard<py::gil_scoped_release>(),
           "Stop serving a version and return it. Raises ModelNotFound.")
      .def("find", &find, py::arg("name"), py::arg("version") = py::none(),
           "That version; None: the highest. Raises ModelNotFound.")
      .def("list", &Registry::list, "What is served, ordered by name and version.")
      .def_property_readonly(
          "capsule",
          [](const RegistryPtr& served) {
            return py::reinterpret_steal<py::capsule>(to_capsule(served));
          },
          "Shares the registry with pyruntime._hot.");
}

}  // namespace

py::tuple to_latency_tuple(const HistogramSnapshot& latency) {
  constexpr double kNanosecondsPerMicrosecond = 1e3;
  const auto us = [](double ns) { return ns / kNanosecondsPerMicrosecond; };
  return py::make_tuple(latency.count, latency.sum_ns, us(latency.mean_ns()),
                        us(latency.quantile_ns(0.5)), us(latency.quantile_ns(0.9)),
                        us(latency.quantile_ns(0.99)), us(static_cast<double>(latency.max_ns)));
}

py::tuple to_bucket_tuple(const HistogramSnapshot& latency) {
  py::list result;
  for (unsigned i = 0; i < HistogramScale::kBuckets; ++i) {
    if (latency.buckets[i] == 0) continue;
    result.append(py::make_tuple(static_cast<double>(HistogramScale::lower_bound(i)) / 1e3,
                                 latency.buckets[i]));
  }
  return py::tuple(result);
}

void bind_models(py::module_& module) {
  bind_model_version(module);
  bind_registry(module);
}

}  // namespace pyruntime
