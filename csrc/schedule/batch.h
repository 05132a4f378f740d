// Requests that run together.
#pragma once

#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "schedule/request.h"

namespace pyruntime {

struct Bucket;

// The members are the batch's to answer.
struct Batch {
  // To each member: the scheduler's and the queue's.
  static constexpr uint32_t kReferences = 2;

  std::vector<Request*> members;
  std::size_t sealed = 0;  // members that are claimed: the first ones
  int64_t rows = 0;
  Bucket* bucket = nullptr;
  TimePoint oldest{};           // the first member's submission
  TimePoint latest{};           // when it must run for every member to meet its deadline
  TimePoint deadline = kNever;  // the earliest of its members', as far as known when they joined
  TimePoint formed_at{};

  bool is_empty() const { return members.empty(); }
  void clear() {
    members.clear();
    sealed = 0;
    rows = 0;
    bucket = nullptr;
    deadline = kNever;
  }
};

}  // namespace pyruntime
