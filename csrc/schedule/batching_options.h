// How requests are grouped before a run.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "schedule/cost_model.h"
#include "schedule/request.h"

namespace pyruntime {

// A dimension in which requests of unequal lengths may be filled up to run together.
struct PaddingOptions {
  std::string dim;   // a symbol of the model's inputs, or "INPUT.AXIS"
  double value = 0;  // that fills
  std::vector<std::pair<std::string, double>> values;  // by input, where another one fills
  std::vector<std::string> outputs;  // "OUTPUT.AXIS" to be cut back, beside those with the symbol
  std::vector<int64_t> sizes;        // ascending; empty: learned from the lengths that come
  int64_t largest = 0;               // no size exceeds it; 0: no limit
};

struct BatchingOptions {
  int64_t max_rows = 0;                    // along dimension 0 in one run; 1: no batching, 0: found
  std::chrono::microseconds max_delay{0};  // longest wait of the oldest request for company
  int queue_capacity = 1024;               // requests that wait, at most
  int64_t queue_rows = 0;                  // their rows together, at most; 0: no limit
  int64_t queue_bytes = 0;                 // and the bytes of their inputs; 0: no limit
  int64_t request_rows = 0;                // of one request, at most; 0: no limit
  std::chrono::microseconds queue_timeout{0};     // who waited longer is not run; 0: no limit
  Priority default_priority = Priority::kNormal;  // of requests that name none
  std::vector<PaddingOptions> padding;

  bool may_batch() const { return max_rows != 1; }
  // Rows that no batch of several requests exceeds.
  int64_t most_rows() const { return max_rows == 0 ? CostModel::kMostRows : max_rows; }
};

}  // namespace pyruntime
