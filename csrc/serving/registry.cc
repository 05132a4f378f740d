#include "serving/registry.h"

#include <algorithm>
#include <utility>

namespace pyruntime {

Registry::Registry() : routes_(std::make_unique<const Routes>()) {}

Registry::~Registry() {
  for (const auto& model : list()) model->close();
}

// Changes one model's route in a copy of all, and swaps that in.
template <typename Change>
void Registry::update(std::string_view name, Change&& change) {
  auto routes = routes_.read([](const Routes& now) { return std::make_unique<Routes>(now); });
  const auto at = routes->try_emplace(std::string(name), std::string(name), shadows_).first;
  std::forward<Change>(change)(at->second);
  if (at->second.is_empty()) routes->erase(at);
  const bool has_shadow = std::any_of(routes->begin(), routes->end(),
                                      [](const auto& entry) { return entry.second.has_shadow(); });
  routes_.replace(std::move(routes));
  if (has_shadow != std::exchange(has_shadow_, has_shadow)) shadows_.set_active(has_shadow);
}

// Calls `use(const Route&)`, if there is one.
template <typename Use>
Status Registry::use(std::string_view name, Use&& use) const {
  return routes_.read([&](const Routes& routes) -> Status {
    const auto route = routes.find(name);
    if (route == routes.end()) {
      return {ErrorCode::kModelNotFound, "model '" + std::string(name) + "' is not loaded"};
    }
    return std::forward<Use>(use)(route->second);
  });
}

void Registry::add(std::shared_ptr<ModelVersion> model) {
  const std::lock_guard lock(write_mutex_);
  const std::string name = model->name();
  update(name, [&](Route& route) {
    if (route.at(model->version()) != nullptr) {
      throw Error(ErrorCode::kInvalidInput, "model '" + name + "' version " +
                                                std::to_string(model->version()) +
                                                " is loaded already; unload it first");
    }
    route.add(std::move(model));
  });
}

std::shared_ptr<ModelVersion> Registry::exchange(std::shared_ptr<ModelVersion> model) {
  const std::lock_guard lock(write_mutex_);
  const std::string name = model->name();
  std::shared_ptr<ModelVersion> old;
  update(name, [&](Route& route) {
    old = route.at(model->version());
    route.add(std::move(model));
  });
  return old;
}

std::shared_ptr<ModelVersion> Registry::remove(std::string_view name, int64_t version) {
  const std::lock_guard lock(write_mutex_);
  std::shared_ptr<ModelVersion> model;
  find(name, version, &model).throw_if_failed();
  update(name, [&](Route& route) { route.remove(model->version()); });
  return model;
}

Status Registry::find(std::string_view name, int64_t version,
                      std::shared_ptr<ModelVersion>* model) const {
  // Not within read(): it may be the last reference, and a model's end takes time.
  model->reset();
  return use(name, [&](const Route& route) { return route.find(version, model); });
}

Status Registry::route(std::string_view name, const RouteQuery& query, Decision* decision) const {
  decision->reset();
  return use(name, [&](const Route& route) { return route.pick(query, decision); });
}

Status Registry::primary(std::string_view name, std::string_view label,
                         std::shared_ptr<ModelVersion>* model) const {
  model->reset();
  return use(name, [&](const Route& route) { return route.primary(label, model); });
}

void Registry::set_routing(std::string_view name, Labels labels, const RouteSpec* spec,
                           std::span<const int64_t> needed) {
  const std::lock_guard lock(write_mutex_);
  update(name, [&](Route& route) {
    for (const int64_t version : needed) {
      std::shared_ptr<ModelVersion> model;
      route.find(version, &model).throw_if_failed();
    }
    route.set_routing(std::move(labels), spec);
  });
}

std::shared_ptr<Traffic> Registry::traffic(std::string_view name) const {
  std::shared_ptr<Traffic> traffic;
  const Status found = use(name, [&](const Route& route) -> Status {
    traffic = route.traffic();
    return {};
  });
  return found.ok() ? traffic : nullptr;
}

std::vector<std::shared_ptr<ModelVersion>> Registry::list() const {
  return routes_.read([](const Routes& routes) {
    std::vector<std::shared_ptr<ModelVersion>> models;
    for (const auto& [name, route] : routes) {
      for (const auto& [version, model] : route.versions()) models.push_back(model);
    }
    return models;
  });
}

}  // namespace pyruntime
