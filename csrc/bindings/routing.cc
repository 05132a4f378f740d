// Labels and routes of the registry, and what is counted of them.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/stl.h>

#include "bindings/module.h"
#include "serving/registry.h"

namespace py = pybind11;

namespace pyruntime {
namespace {

Target to_target(const py::handle& target) {
  if (target.is_none()) return {};
  if (py::isinstance<py::str>(target)) return {kLatest, target.cast<std::string>()};
  return {target.cast<int64_t>(), {}};
}

// (absolute, relative)
Tolerance to_tolerance(const py::handle& tolerance) {
  const auto pair = tolerance.cast<py::tuple>();
  return {pair[0].cast<double>(), pair[1].cast<double>()};
}

ShadowSpec to_shadow_spec(const py::dict& spec) {
  ShadowSpec made;
  made.target = to_target(spec["target"]);
  made.share = spec["share"].cast<int>();
  made.tolerance = to_tolerance(spec["tolerance"]);
  for (const auto& [name, tolerance] : spec["outputs"].cast<py::dict>()) {
    made.outputs[name.cast<std::string>()] = to_tolerance(tolerance);
  }
  return made;
}

// Of what pyruntime.routing.native_spec() makes.
RouteSpec to_route_spec(const py::dict& spec) {
  RouteSpec made;
  made.policy = spec["policy"].cast<std::string>();
  made.name = spec["name"].cast<std::string>();
  made.salt = spec["salt"].cast<std::string>();
  made.epsilon = spec["epsilon"].cast<double>();
  made.arms.clear();
  for (const py::handle& item : spec["arms"]) {
    const auto arm = item.cast<py::tuple>();
    made.arms.push_back({arm[0].cast<std::string>(), to_target(arm[1]), arm[2].cast<int>()});
  }
  if (!spec["shadow"].is_none()) made.shadow = to_shadow_spec(spec["shadow"].cast<py::dict>());
  return made;
}

void set_routing(Registry& registry, const std::string& name, Labels labels,
                 const std::optional<py::dict>& spec, const std::vector<int64_t>& needed) {
  std::optional<RouteSpec> route;
  if (spec) route = to_route_spec(*spec);
  const py::gil_scoped_release released;
  registry.set_routing(name, std::move(labels), route ? &*route : nullptr, needed);
}

py::object to_python(const Target& target) {
  if (!target.label.empty()) return py::str(target.label);
  if (target.version == kLatest) return py::none();
  return py::int_(target.version);
}

py::dict to_dict(const ArmSpec& arm, const ArmStatsSnapshot& stats) {
  py::dict result;
  result["name"] = arm.name;
  result["target"] = to_python(arm.target);
  result["assigned"] = stats.assigned;
  result["completed"] = stats.completed;
  result["failed"] = stats.failed;
  result["cancelled"] = stats.cancelled;
  result["refused"] = stats.refused;
  result["rewards"] = stats.rewards;
  result["reward_sum"] = stats.reward_sum;
  result["total"] = to_latency_tuple(stats.total);
  result["buckets"] = to_bucket_tuple(stats.total);
  return result;
}

py::dict to_dict(const ShadowStatsSnapshot& stats) {
  py::dict result;
  result["sampled"] = stats.sampled;
  result["dropped"] = stats.dropped;
  result["skipped"] = stats.skipped;
  result["failed"] = stats.failed;
  result["matched"] = stats.matched;
  result["mismatched"] = stats.mismatched;
  result["last_problem"] = stats.last_problem;
  py::list outputs;
  for (const auto& output : stats.outputs) {
    outputs.append(
        py::make_tuple(output.name, output.mismatched, output.max_absolute, output.max_relative));
  }
  result["outputs"] = py::tuple(outputs);
  result["total"] = to_latency_tuple(stats.total);
  return result;
}

// None where nothing is counted.
py::object route_stats(const Registry& registry, const std::string& name) {
  const std::shared_ptr<Traffic> traffic = registry.traffic(name);
  if (traffic == nullptr || !traffic->is_tracked()) return py::none();
  const TrafficStatsSnapshot stats = traffic->stats();
  py::list arms;
  for (std::size_t i = 0; i < stats.arms.size(); ++i) {
    arms.append(to_dict(traffic->spec().arms[i], stats.arms[i]));
  }
  py::dict result;
  result["experiment"] = traffic->spec().name;
  result["arms"] = py::tuple(arms);
  result["fallbacks"] = stats.fallbacks;
  result["unmatched_rewards"] = stats.unmatched_rewards;
  result["shadow"] = traffic->shadow() == nullptr ? py::object(py::none())
                                                  : py::object(to_dict(traffic->shadow()->stats()));
  return result;
}

ArmStatsSnapshot to_arm_stats(const py::dict& counts) {
  ArmStatsSnapshot stats;
  stats.completed = counts["completed"].cast<uint64_t>();
  stats.failed = counts["failed"].cast<uint64_t>();
  stats.cancelled = counts["cancelled"].cast<uint64_t>();
  stats.refused = counts["refused"].cast<uint64_t>();
  stats.rewards = counts["rewards"].cast<uint64_t>();
  stats.reward_sum = counts["reward_sum"].cast<double>();
  return stats;
}

bool restore_traffic(const Registry& registry, const std::string& name,
                     const std::string& experiment, const py::dict& arms) {
  std::map<std::string, ArmStatsSnapshot, std::less<>> before;
  for (const auto& [arm, counts] : arms) {
    before[arm.cast<std::string>()] = to_arm_stats(counts.cast<py::dict>());
  }
  const std::shared_ptr<Traffic> traffic = registry.traffic(name);
  return traffic != nullptr && traffic->restore(experiment, before);
}

void give_reward(const Registry& registry, const std::string& name, const std::string& request_id,
                 double reward) {
  const std::shared_ptr<Traffic> traffic = registry.traffic(name);
  Status given(ErrorCode::kModelNotFound,
               "expected an experiment or a bandit, which rewards are for; it has no route");
  if (traffic != nullptr) given = traffic->give_reward(request_id, reward);
  if (!given.ok()) throw Error(given.code(), "model '" + name + "': " + given.message());
}

}  // namespace

void bind_routing(py::class_<Registry, std::shared_ptr<Registry>>& registry) {
  registry
      .def("set_routing", &set_routing, py::arg("name"), py::arg("labels"), py::arg("route"),
           py::arg("needed"),
           "Swap in labels and route (routing.native_spec(); None: the latest) of a model. needed: "
           "versions that must be loaded. Raises InvalidInput, ModelNotFound.")
      .def("route_stats", &route_stats, py::arg("name"),
           "What is counted of its route; None where that is one version.")
      .def("restore_traffic", &restore_traffic, py::arg("name"), py::arg("experiment"),
           py::arg("arms"),
           "Add what was counted of each arm before; False if the route is another experiment.")
      .def("give_reward", &give_reward, py::arg("name"), py::arg("request_id"), py::arg("reward"),
           "Count a reward for the arm that answered. Raises InvalidInput, ModelNotFound.")
      .def(
          "primary",
          [](const Registry& self, const std::string& name, const std::string& label) {
            std::shared_ptr<ModelVersion> model;
            throw_if_failed(self.primary(name, label, &model));
            return model;
          },
          py::arg("name"), py::arg("label") = "",
          "The version that speaks for a model, or for a label of it. Raises ModelNotFound.");
}

}  // namespace pyruntime
