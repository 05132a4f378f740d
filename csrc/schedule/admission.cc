#include "schedule/admission.h"

#include <string>

namespace pyruntime {

namespace {

// Adds `amount` unless more than `limit` would then wait; one alone always may.
bool try_add(std::atomic<int64_t>* waiting, int64_t amount, int64_t limit) {
  const int64_t before = waiting->fetch_add(amount, std::memory_order_relaxed);
  if (before <= 0 || before + amount <= limit) return true;
  waiting->fetch_sub(amount, std::memory_order_relaxed);
  return false;
}

Status full(const std::string& what, int64_t limit, const char* option) {
  return {ErrorCode::kOverloaded, "the queue is full: " + what + " over " + std::to_string(limit) +
                                      " would wait (" + option + ")"};
}

}  // namespace

Status Admission::enter(int64_t rows, int64_t bytes) {
  // seq_cst: counting in and then looking at accepting_, against closing and
  // then looking at the count in stop_accepting() and outstanding(), is
  // Dekker's pattern.
  const int64_t before = entered_.fetch_add(1, std::memory_order_seq_cst);
  Status refusal;
  if (!accepting_.load(std::memory_order_seq_cst)) {
    refusal = Status(ErrorCode::kUnavailable, "the model version is being unloaded");
  } else if (before - dequeued_.load(std::memory_order_relaxed) >= queue_capacity_) {
    refusal =
        Status(ErrorCode::kOverloaded, "the queue is full: " + std::to_string(queue_capacity_) +
                                           " requests wait already (queue_capacity)");
  } else if (queue_rows_ != 0 && !try_add(&waiting_rows_, rows, queue_rows_)) {
    refusal = full("with " + std::to_string(rows) + " more rows,", queue_rows_, "queue_rows");
  } else if (queue_bytes_ != 0 && !try_add(&waiting_bytes_, bytes, queue_bytes_)) {
    if (queue_rows_ != 0) waiting_rows_.fetch_sub(rows, std::memory_order_relaxed);
    refusal = full("with " + std::to_string(bytes) + " more bytes,", queue_bytes_, "queue_bytes");
  } else {
    return {};
  }
  entered_.fetch_sub(1, std::memory_order_seq_cst);
  return refusal;
}

}  // namespace pyruntime
