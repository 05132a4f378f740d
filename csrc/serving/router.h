// Picks the version of a model that answers a request.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "serving/model.h"

namespace pyruntime {

inline constexpr int64_t kLatest = -1;

// The versions of one model. Immutable once served.
class Route {
 public:
  void add(std::shared_ptr<ModelVersion> model) {
    const int64_t version = model->version();
    versions_[version] = std::move(model);
  }
  void remove(int64_t version) { versions_.erase(version); }

  // version: kLatest for the highest. nullptr if there is none.
  std::shared_ptr<ModelVersion> pick(int64_t version) const {
    if (versions_.empty()) return nullptr;
    if (version == kLatest) return versions_.rbegin()->second;
    const auto found = versions_.find(version);
    return found == versions_.end() ? nullptr : found->second;
  }

  const std::map<int64_t, std::shared_ptr<ModelVersion>>& versions() const { return versions_; }

 private:
  std::map<int64_t, std::shared_ptr<ModelVersion>> versions_;
};

}  // namespace pyruntime
