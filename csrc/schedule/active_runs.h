// The runs under way, as others than their owners see them: to end one that
// nobody wants any more, and to find one that does not come back.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/cache_line.h"
#include "base/clock.h"
#include "engine/run_control.h"

namespace pyruntime {

class ActiveRuns;
class Request;
class Watchdog;

// The run of one batch slot, again and again.
//
// Its word is a lock that costs the owner one read-modify-write when a run
// begins and one when it ends. Others hold it while they look at the members,
// who cannot be answered meanwhile.
//
// Threads: begin(), renew() and end() by the owner of the slot, the rest from any.
class ActiveRun {
 public:
  // where: "instance 0 on simulated:0", for reports. `all` must outlive this,
  // or leave() must have been called.
  ActiveRun(ActiveRuns& all, std::string where, std::unique_ptr<RunControl> control);
  ~ActiveRun() { leave(); }

  ActiveRun(const ActiveRun&) = delete;
  ActiveRun& operator=(const ActiveRun&) = delete;

  // Announces a run of `members`, which must stay as they are until end().
  // since: from when it is expected to make progress, kNever: not before renew().
  // Returns false, announcing nothing, when all of them are cancelled already.
  [[nodiscard]] bool begin(const std::vector<Request*>& members, TimePoint since);
  void renew(TimePoint since);
  // Nothing when none has begun.
  void end();
  // No longer one of all: never begun again.
  void leave();

  RunControl& control() { return *control_; }
  const std::string& where() const { return where_; }
  // When the run became overdue if `now` is later; kNever: it cannot.
  TimePoint due_at() const;
  // Prints, once a run, that it is overdue.
  void report();

 private:
  friend class ActiveRuns;
  enum Word : uint32_t { kIdle, kRunning, kHeld };

  void end_if_unwanted();
  bool is_running() const { return word_.load(std::memory_order_seq_cst) != kIdle; }

  // Constant after construction.
  ActiveRuns& all_;
  const std::string where_;
  const std::unique_ptr<RunControl> control_;

  alignas(kCacheLine) std::atomic<uint32_t> word_{kIdle};
  std::atomic<int64_t> since_{0};                   // ns of the clock
  std::atomic<int64_t> reported_{0};                // `since_` of the last run reported
  const std::vector<Request*>* members_ = nullptr;  // guarded by word_
  bool is_listed_ = true;                           // the owner's
};

// Those of one model version.
//
// Threads: watch() before anything runs, the rest from any.
class ActiveRuns {
 public:
  struct Overdue {
    int64_t count = 0;
    TimePoint oldest = kNever;  // when the oldest of them began
  };

  explicit ActiveRuns(const Clock& clock) : clock_(clock) {}
  ~ActiveRuns();

  ActiveRuns(const ActiveRuns&) = delete;
  ActiveRuns& operator=(const ActiveRuns&) = delete;

  // From now on the watchdog reports, in the name of `label`, a run that takes
  // longer. Without a call, or with 0, none is ever overdue.
  void watch(std::string label, Nanoseconds stuck_after);

  // Ends the runs all of whose members are cancelled.
  void end_unwanted();

  Overdue overdue() const;
  // Reports what is overdue and was not yet. Returns whether anything runs; in
  // `*wait` how long from now none can become overdue.
  bool look(Nanoseconds* wait);

  Nanoseconds stuck_after() const { return stuck_after_; }
  const Clock& clock() const { return clock_; }

 private:
  friend class ActiveRun;

  const Clock& clock_;

  // Constant after watch().
  std::string label_;
  Nanoseconds stuck_after_{0};
  Watchdog* watchdog_ = nullptr;
  uint64_t fork_generation_ = 0;  // of watchdog_

  mutable std::mutex mutex_;  // guards what is below
  std::vector<ActiveRun*> runs_;
};

}  // namespace pyruntime
