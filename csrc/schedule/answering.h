// That this thread answers a batch of an instance, and then forms the instance's next one.
//
// What callbacks submit meanwhile to the same scheduler goes straight into that batch, if nobody
// waits, and shares a reading of the clock.
//
// Threads: each its own.
#pragma once

#include "base/clock.h"
#include "schedule/batcher.h"
#include "schedule/instance.h"
#include "schedule/request.h"

namespace pyruntime {

class Scheduler;

// Begins when it is made and ends when it is destroyed, on one thread, the last made first.
class Answering {
 public:
  // lets_join: not among several instances, which would leave this one all the work.
  Answering(const Scheduler& scheduler, Instance& instance, bool lets_join);
  ~Answering();

  Answering(const Answering&) = delete;
  Answering& operator=(const Answering&) = delete;

  // Of this scheduler on this thread, or nullptr.
  static Answering* of(const Scheduler& scheduler);

  Batch& next_batch() const { return instance_.batch(); }
  bool lets_join(const Batcher& batcher, const Request& request) const {
    return lets_join_ && instance_.carry() == nullptr &&
           batcher.may_join(instance_.batch(), request);
  }

  // The time, read for one in kUses: callbacks are short, and follow one another.
  TimePoint now(const Clock& clock) {
    if (uses_++ % kUses == 0) read_ = clock.now();
    return read_;
  }

 private:
  static constexpr unsigned kUses = 8;

  const Scheduler& scheduler_;
  Instance& instance_;
  const bool lets_join_;
  Answering* const outer_;
  TimePoint read_{};
  unsigned uses_ = 0;
};

}  // namespace pyruntime
