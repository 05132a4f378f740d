// How requests are grouped before a run.
#pragma once

#include <chrono>
#include <cstdint>

#include "schedule/cost_model.h"

namespace pyruntime {

struct BatchingOptions {
  int64_t max_rows = 0;                    // along dimension 0 in one run; 1: no batching, 0: found
  std::chrono::microseconds max_delay{0};  // longest wait of the oldest request for company
  int queue_capacity = 1024;               // requests that wait, at most
  int64_t queue_rows = 0;                  // their rows together, at most; 0: no limit
  int64_t queue_bytes = 0;                 // and the bytes of their inputs; 0: no limit

  bool may_batch() const { return max_rows != 1; }
  // Rows that no batch of several requests exceeds.
  int64_t most_rows() const { return max_rows == 0 ? CostModel::kMostRows : max_rows; }
};

}  // namespace pyruntime
