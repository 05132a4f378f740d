#include "serving/registry.h"

#include <utility>

namespace pyruntime {
namespace {

std::string version_names(const Route& route) {
  std::string names;
  for (const auto& [version, model] : route.versions()) {
    if (!names.empty()) names += ", ";
    names += std::to_string(version);
  }
  return names;
}

}  // namespace

Registry::Registry() : routes_(std::make_unique<const Routes>()) {}

Registry::~Registry() {
  for (const auto& model : list()) model->close();
}

void Registry::add(std::shared_ptr<ModelVersion> model) {
  const std::lock_guard lock(write_mutex_);
  auto routes = routes_.read([](const Routes& now) { return std::make_unique<Routes>(now); });
  Route& route = (*routes)[model->name()];
  if (route.pick(model->version()) != nullptr) {
    throw Error(ErrorCode::kInvalidInput, "model '" + model->name() + "' version " +
                                              std::to_string(model->version()) +
                                              " is loaded already; unload it first");
  }
  route.add(std::move(model));
  routes_.replace(std::move(routes));
}

std::shared_ptr<ModelVersion> Registry::exchange(std::shared_ptr<ModelVersion> model) {
  const std::lock_guard lock(write_mutex_);
  auto routes = routes_.read([](const Routes& now) { return std::make_unique<Routes>(now); });
  Route& route = (*routes)[model->name()];
  std::shared_ptr<ModelVersion> old = route.pick(model->version());
  route.add(std::move(model));
  routes_.replace(std::move(routes));
  return old;
}

std::shared_ptr<ModelVersion> Registry::remove(std::string_view name, int64_t version) {
  const std::lock_guard lock(write_mutex_);
  std::shared_ptr<ModelVersion> model;
  find(name, version, &model).throw_if_failed();
  auto routes = routes_.read([](const Routes& now) { return std::make_unique<Routes>(now); });
  const auto route = routes->find(name);
  route->second.remove(model->version());
  if (route->second.versions().empty()) routes->erase(route);
  routes_.replace(std::move(routes));
  return model;
}

Status Registry::find(std::string_view name, int64_t version,
                      std::shared_ptr<ModelVersion>* model) const {
  // Not within read(): it may be the last reference, and a model's end takes time.
  model->reset();
  return routes_.read([&](const Routes& routes) -> Status {
    const auto route = routes.find(name);
    if (route == routes.end()) {
      return {ErrorCode::kModelNotFound, "model '" + std::string(name) + "' is not loaded"};
    }
    *model = route->second.pick(version);
    if (*model == nullptr) {
      return {ErrorCode::kModelNotFound, "model '" + std::string(name) + "' has no version " +
                                             std::to_string(version) +
                                             "; loaded: " + version_names(route->second)};
    }
    return {};
  });
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
