// Names to models: what is served now.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/snapshot.h"
#include "serving/decision.h"
#include "serving/model.h"
#include "serving/router.h"
#include "serving/shadow_runner.h"

namespace pyruntime {

// Threads: all calls from any. find(), route() and primary() never wait for the
// others.
class Registry {
 public:
  Registry();
  // Closes what is left.
  ~Registry();

  // Serves `model` from now on. Throws InvalidInput if that version is served.
  void add(std::shared_ptr<ModelVersion> model);

  // The same, but a served version of that number gives way in one step: no
  // request meets neither. Returns it (close() drains it), or nullptr.
  std::shared_ptr<ModelVersion> exchange(std::shared_ptr<ModelVersion> model);

  // Stops serving it and returns it (its users may still hold it; close()
  // drains it). Throws ModelNotFound.
  std::shared_ptr<ModelVersion> remove(std::string_view name, int64_t version);

  // version: kLatest for the highest. ModelNotFound names what there is.
  Status find(std::string_view name, int64_t version, std::shared_ptr<ModelVersion>* model) const;

  // Decides which version answers a request. ModelNotFound names what there is.
  Status route(std::string_view name, const RouteQuery& query, Decision* decision) const;

  // The version that speaks for a model whose requests may go to several, or for
  // a label of it (empty: none).
  Status primary(std::string_view name, std::string_view label,
                 std::shared_ptr<ModelVersion>* model) const;

  // Labels and route of a model, swapped in together. spec: null for the latest.
  // They stay when its versions are unloaded, and may come before those are
  // loaded, but for the `needed` ones: InvalidInput, ModelNotFound.
  void set_routing(std::string_view name, Labels labels, const RouteSpec* spec,
                   std::span<const int64_t> needed);

  // What a route's requests share; null where there is no route.
  std::shared_ptr<Traffic> traffic(std::string_view name) const;

  // Ordered by name and version.
  std::vector<std::shared_ptr<ModelVersion>> list() const;

 private:
  using Routes = std::map<std::string, Route, std::less<>>;

  template <typename Change>
  void update(std::string_view name, Change&& change);
  template <typename Use>
  Status use(std::string_view name, Use&& use) const;

  ShadowRunner shadows_;  // outlives the routes
  Snapshot<Routes> routes_;
  std::mutex write_mutex_;   // orders writers: copy, change, replace
  bool has_shadow_ = false;  // under write_mutex_
};

}  // namespace pyruntime
