// A version that answers copies of a model's requests, unseen: what is asked of
// it, and what came of it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.h"
#include "base/random.h"
#include "serving/model.h"
#include "serving/route_spec.h"
#include "serving/tensor_difference.h"

namespace pyruntime {

class ShadowRunner;

struct ShadowStatsSnapshot {
  struct Output {
    std::string name;
    uint64_t mismatched = 0;  // answers
    double max_absolute = 0;
    double max_relative = 0;
  };

  // sampled = dropped + skipped + failed + matched + mismatched + what is under way.
  uint64_t sampled = 0;
  uint64_t dropped = 0;      // too many waited, too large, or the version went away
  uint64_t skipped = 0;      // the primary gave no answer to compare with
  uint64_t failed = 0;       // the shadow gave none
  uint64_t matched = 0;      // all outputs within their tolerances
  uint64_t mismatched = 0;   // or not
  std::string last_problem;  // of failed and mismatched; empty: none
  std::vector<Output> outputs;
  HistogramSnapshot total;  // from the shadow's submission to its completion
};

// Threads: outcomes by the runner's thread alone; the rest from any.
class Shadow {
 public:
  explicit Shadow(ShadowSpec spec) : spec_(std::move(spec)) {}

  const ShadowSpec& spec() const { return spec_; }
  // Whether this request is one that is copied.
  bool wants_one(Random& random) const {
    return spec_.share == kWhole || static_cast<int>(random.below(kWhole)) < spec_.share;
  }
  const Tolerance& tolerance_of(std::string_view output) const;

  void count_sampled() { sampled_.add(); }
  void count_dropped() { dropped_.add(); }
  void count_skipped() { skipped_.add(); }
  void count_failed(const Status& status);
  void count_total(int64_t ns) { total_.record(ns); }
  // Of one output of an answer.
  void note(std::string_view output, const Difference& found);
  void count_compared(bool is_match) { (is_match ? matched_ : mismatched_).add(); }

  ShadowStatsSnapshot stats() const;

 private:
  const ShadowSpec spec_;
  Counter sampled_, dropped_, skipped_, failed_, matched_, mismatched_;
  Histogram total_;

  mutable std::mutex mutex_;  // guards what is below; the requests' threads never take it
  std::string last_problem_;
  std::vector<ShadowStatsSnapshot::Output> outputs_;
};

// Where the tensors of one version are in another's signature.
struct TensorMap {
  static constexpr int kMissing = -1;
  // Of each of the shadow's inputs, its place in the primary's; of each of the
  // primary's outputs, its place in the shadow's.
  std::vector<int> inputs;
  std::vector<int> outputs;
  std::vector<std::string> names;  // of the primary's outputs

  TensorMap(const Signature& primary, const Signature& shadow);
  bool has_all_inputs() const;
};

// A shadow as one snapshot of the registry serves it. Constant.
struct ShadowRoute {
  std::shared_ptr<Shadow> shadow;
  std::shared_ptr<ModelVersion> target;
  std::vector<TensorMap> maps;  // from each arm's version
  ShadowRunner* runner = nullptr;
};

}  // namespace pyruntime
