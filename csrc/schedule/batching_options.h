// How requests are grouped before a run.
#pragma once

#include <chrono>
#include <cstdint>

namespace pyruntime {

struct BatchingOptions {
  int64_t max_rows = 32;                   // along dimension 0 in one run; 1: no batching
  std::chrono::microseconds max_delay{0};  // longest wait of the oldest request for company
  int queue_capacity = 1024;               // requests that wait, at most
};

}  // namespace pyruntime
