#include "schedule/answering.h"

#include <utility>

namespace pyruntime {

namespace {
thread_local Answering* innermost = nullptr;
}  // namespace

Answering::Answering(const Scheduler& scheduler, Instance& instance, bool lets_join)
    : scheduler_(scheduler),
      instance_(instance),
      lets_join_(lets_join),
      outer_(std::exchange(innermost, this)) {}

Answering::~Answering() { innermost = outer_; }

Answering* Answering::of(const Scheduler& scheduler) {
  Answering* const here = innermost;
  return here != nullptr && &here->scheduler_ == &scheduler ? here : nullptr;
}

}  // namespace pyruntime
