#include "serving/shadow.h"

#include <algorithm>
#include <cmath>

namespace pyruntime {
namespace {

std::vector<int> places(const std::vector<TensorSpec>& of, const std::vector<TensorSpec>& in) {
  std::vector<int> result;
  for (const TensorSpec& spec : of) {
    const auto found = std::find_if(
        in.begin(), in.end(), [&](const TensorSpec& other) { return other.name == spec.name; });
    result.push_back(found == in.end() ? TensorMap::kMissing
                                       : static_cast<int>(found - in.begin()));
  }
  return result;
}

}  // namespace

const Tolerance& Shadow::tolerance_of(std::string_view output) const {
  const auto own = spec_.outputs.find(output);
  return own == spec_.outputs.end() ? spec_.tolerance : own->second;
}

void Shadow::count_failed(const Status& status) {
  {
    const std::lock_guard lock(mutex_);
    last_problem_ = status.to_string();
  }
  failed_.add();
}

void Shadow::note(std::string_view output, const Difference& found) {
  const std::lock_guard lock(mutex_);
  auto at = std::find_if(outputs_.begin(), outputs_.end(),
                         [&](const auto& known) { return known.name == output; });
  if (at == outputs_.end()) at = outputs_.insert(at, {std::string(output)});
  at->max_absolute = std::max(at->max_absolute, found.max_absolute);
  at->max_relative = std::max(at->max_relative, found.max_relative);
  if (found.is_within()) return;
  ++at->mismatched;
  last_problem_ = "output '" + std::string(output) + "': " + found.first;
}

ShadowStatsSnapshot Shadow::stats() const {
  ShadowStatsSnapshot snapshot;
  // Outcomes before samples, so that no more seem done than sampled.
  snapshot.dropped = dropped_.read();
  snapshot.skipped = skipped_.read();
  snapshot.failed = failed_.read();
  snapshot.matched = matched_.read();
  snapshot.mismatched = mismatched_.read();
  snapshot.sampled = sampled_.read();
  snapshot.total = total_.read();
  const std::lock_guard lock(mutex_);
  snapshot.last_problem = last_problem_;
  snapshot.outputs = outputs_;
  return snapshot;
}

TensorMap::TensorMap(const Signature& primary, const Signature& shadow)
    : inputs(places(shadow.inputs, primary.inputs)),
      outputs(places(primary.outputs, shadow.outputs)) {
  for (const TensorSpec& spec : primary.outputs) names.push_back(spec.name);
}

bool TensorMap::has_all_inputs() const {
  return std::find(inputs.begin(), inputs.end(), kMissing) == inputs.end();
}

}  // namespace pyruntime
