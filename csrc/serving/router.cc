#include "serving/router.h"

#include <utility>

namespace pyruntime {

void Route::add(std::shared_ptr<ModelVersion> model) {
  const int64_t version = model->version();
  versions_[version] = std::move(model);
  resolve();
}

void Route::remove(int64_t version) {
  versions_.erase(version);
  resolve();
}

void Route::set_routing(Labels labels, const RouteSpec* spec) {
  if (spec == nullptr) {
    traffic_ = nullptr;
  } else if (traffic_ == nullptr || traffic_->spec() != *spec) {
    traffic_ = std::make_shared<Traffic>(*spec, traffic_.get());
  }
  labels_ = std::move(labels);
  resolve();
}

void Route::resolve() {
  static const std::vector<ArmSpec> latest(1);
  const auto& arms = traffic_ == nullptr ? latest : traffic_->spec().arms;
  arms_.clear();
  for (const ArmSpec& arm : arms) arms_.push_back(at(arm.target));
  is_tracked_ = traffic_ != nullptr && traffic_->is_tracked();
  shadow_ = nullptr;
  if (traffic_ != nullptr && traffic_->shadow() != nullptr) resolve_shadow();
}

void Route::resolve_shadow() {
  std::shared_ptr<ModelVersion> target = at(traffic_->shadow()->spec().target);
  if (target == nullptr) return;
  auto shadow = std::make_shared<ShadowRoute>();
  shadow->shadow = traffic_->shadow();
  shadow->runner = runner_;
  for (const auto& arm : arms_) {
    shadow->maps.emplace_back((arm == nullptr ? target : arm)->signature(), target->signature());
  }
  shadow->target = std::move(target);
  shadow_ = std::move(shadow);
}

Status Route::pick(const RouteQuery& query, Decision* decision) const {
  if (query.version != kLatest) return find(query.version, &decision->model);
  if (!is_tracked_ || !query.label.empty()) return primary(query.label, &decision->model);
  std::size_t arm = traffic_->choose(query.key);
  if (arm != 0 && arms_[arm] == nullptr) {
    traffic_->count_fallback();
    arm = 0;
  }
  if (arms_[arm] == nullptr) return primary({}, &decision->model);  // says why
  decision->model = arms_[arm];
  decision->traffic = traffic_;
  decision->arm = arm;
  if (shadow_ != nullptr && shadow_->target != arms_[arm] &&
      shadow_->shadow->wants_one(thread_random())) {
    decision->shadow = shadow_;
  }
  return {};
}

Status Route::find(int64_t version, std::shared_ptr<ModelVersion>* model) const {
  *model = at(version);
  return *model == nullptr ? why_none({version, {}}) : Status();
}

Status Route::primary(std::string_view label, std::shared_ptr<ModelVersion>* model) const {
  if (label.empty()) {
    *model = arms_.front();
    if (*model != nullptr) return {};
    return why_none(traffic_ == nullptr ? Target{} : traffic_->spec().arms.front().target);
  }
  if (const auto named = labels_.find(label); named != labels_.end()) *model = at(named->second);
  return *model == nullptr ? why_none({kLatest, std::string(label)}) : Status();
}

std::shared_ptr<ModelVersion> Route::at(int64_t version) const {
  if (versions_.empty()) return nullptr;
  if (version == kLatest) return versions_.rbegin()->second;
  const auto found = versions_.find(version);
  return found == versions_.end() ? nullptr : found->second;
}

std::shared_ptr<ModelVersion> Route::at(const Target& target) const {
  if (target.label.empty()) return at(target.version);
  const auto label = labels_.find(target.label);
  return label == labels_.end() ? nullptr : at(label->second);
}

Status Route::why_none(const Target& target) const {
  std::string loaded;
  for (const auto& [version, model] : versions_) {
    loaded += (loaded.empty() ? "" : ", ") + std::to_string(version);
  }
  std::string what = "model '" + name_ + "'";
  if (versions_.empty()) {
    what += " is not loaded";
  } else if (target.label.empty()) {
    what += " has no version " + std::to_string(target.version) + "; loaded: " + loaded;
  } else if (const auto label = labels_.find(target.label); label != labels_.end()) {
    what += " has no version " + std::to_string(label->second) + ", which label '" + target.label +
            "' names; loaded: " + loaded;
  } else {
    std::string known;
    for (const auto& [name, version] : labels_) {
      known += (known.empty() ? "'" : ", '") + name + "' (version " + std::to_string(version) + ")";
    }
    what += " has no label '" + target.label + "'; it has " + (known.empty() ? "none" : known);
  }
  return {ErrorCode::kModelNotFound, what};
}

}  // namespace pyruntime
