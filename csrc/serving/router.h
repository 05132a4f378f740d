// Picks the version of a model that answers a request.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "serving/decision.h"
#include "serving/model.h"
#include "serving/route_spec.h"
#include "serving/traffic.h"

namespace pyruntime {

class ShadowRunner;

// What a request says of where it wants to go. At most one of version and label.
struct RouteQuery {
  int64_t version = kLatest;  // this and no other
  std::string_view label{};   // the version that it names
  std::string_view key{};     // of a caller, for policies that keep callers on one arm
};

// The versions of one model, their labels, and how requests that name neither
// are spread. Immutable once served; a writer changes a copy.
class Route {
 public:
  // runner: of shadows; must outlive this and its decisions.
  Route(std::string name, ShadowRunner& runner) : name_(std::move(name)), runner_(&runner) {}

  void add(std::shared_ptr<ModelVersion> model);
  void remove(int64_t version);
  // A label may name a version that is not loaded, and then leads nowhere. spec:
  // null for the latest; the same as before goes on with what it has counted.
  // Throws InvalidInput.
  void set_routing(Labels labels, const RouteSpec* spec);

  // Answers by ModelNotFound where the version is not loaded, naming what is.
  Status pick(const RouteQuery& query, Decision* decision) const;
  // The version of a label, or without one that of the first arm, which speaks
  // for the model.
  Status primary(std::string_view label, std::shared_ptr<ModelVersion>* model) const;
  // version: kLatest for the highest.
  Status find(int64_t version, std::shared_ptr<ModelVersion>* model) const;
  // nullptr if it is not loaded.
  std::shared_ptr<ModelVersion> at(int64_t version) const;
  // Whether nothing is left to know.
  bool is_empty() const { return versions_.empty() && labels_.empty() && traffic_ == nullptr; }

  const std::map<int64_t, std::shared_ptr<ModelVersion>>& versions() const { return versions_; }
  const std::shared_ptr<Traffic>& traffic() const { return traffic_; }
  bool has_shadow() const { return shadow_ != nullptr; }

 private:
  void resolve();
  void resolve_shadow();
  std::shared_ptr<ModelVersion> at(const Target& target) const;
  Status why_none(const Target& target) const;

  std::string name_;
  ShadowRunner* runner_;
  std::map<int64_t, std::shared_ptr<ModelVersion>> versions_;
  Labels labels_;
  std::shared_ptr<Traffic> traffic_;  // null: the latest

  // Follows from the above.
  std::vector<std::shared_ptr<ModelVersion>> arms_;  // as in the spec; null: not loaded
  bool is_tracked_ = false;
  std::shared_ptr<const ShadowRoute> shadow_;  // null: none, or not loaded
};

}  // namespace pyruntime
