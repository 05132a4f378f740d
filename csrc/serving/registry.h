// Names to models: what is served now.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/snapshot.h"
#include "serving/model.h"
#include "serving/router.h"

namespace pyruntime {

// Threads: all calls from any. find() never waits for add() or remove().
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

  // version: kLatest for the router's choice. ModelNotFound names what there is.
  Status find(std::string_view name, int64_t version, std::shared_ptr<ModelVersion>* model) const;

  // Ordered by name and version.
  std::vector<std::shared_ptr<ModelVersion>> list() const;

 private:
  using Routes = std::map<std::string, Route, std::less<>>;

  Snapshot<Routes> routes_;
  std::mutex write_mutex_;  // orders writers: copy, change, replace
};

}  // namespace pyruntime
