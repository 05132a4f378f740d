#include "schedule/admission.h"

#include <string>

namespace pyruntime {

Status Admission::enter() {
  // seq_cst: counting in and then looking at accepting_, against closing and
  // then looking at the count in stop_accepting() and outstanding(), is
  // Dekker's pattern.
  const int64_t before = entered_.fetch_add(1, std::memory_order_seq_cst);
  if (!accepting_.load(std::memory_order_seq_cst)) {
    entered_.fetch_sub(1, std::memory_order_seq_cst);
    return {ErrorCode::kUnavailable, "the model version is being unloaded"};
  }
  if (before - dequeued_.load(std::memory_order_relaxed) >= queue_capacity_) {
    entered_.fetch_sub(1, std::memory_order_seq_cst);
    return {ErrorCode::kOverloaded, "the queue is full: " + std::to_string(queue_capacity_) +
                                        " requests wait already (queue_capacity)"};
  }
  return {};
}

}  // namespace pyruntime
