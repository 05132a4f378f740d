#include "schedule/active_runs.h"

#include <algorithm>
#include <cstdio>
#include <thread>
#include <utility>

#include "base/fork.h"
#include "schedule/request.h"
#include "schedule/watchdog.h"

namespace pyruntime {

ActiveRun::ActiveRun(ActiveRuns& all, std::string where, std::unique_ptr<RunControl> control)
    : all_(all), where_(std::move(where)), control_(std::move(control)) {
  const std::lock_guard lock(all_.mutex_);
  all_.runs_.push_back(this);
}

void ActiveRun::leave() {
  if (!std::exchange(is_listed_, false)) return;
  const std::lock_guard lock(all_.mutex_);
  std::erase(all_.runs_, this);
}

bool ActiveRun::begin(const std::vector<Request*>& members, TimePoint since) {
  if (control_->is_terminated()) control_->rearm();
  members_ = &members;
  since_.store(since.time_since_epoch().count(), std::memory_order_relaxed);
  // seq_cst: storing this and then looking at the members and at the watchdog,
  // while who cancels and the watchdog do the reverse, is Dekker's pattern.
  word_.exchange(kRunning, std::memory_order_seq_cst);
  if (all_.watchdog_ != nullptr) all_.watchdog_->notice_run();
  const bool is_wanted = std::any_of(members.begin(), members.end(),
                                     [](const Request* member) { return !member->is_unwanted(); });
  if (!is_wanted) end();
  return is_wanted;
}

void ActiveRun::renew(TimePoint since) {
  since_.store(since.time_since_epoch().count(), std::memory_order_relaxed);
}

void ActiveRun::end() {
  if (word_.load(std::memory_order_relaxed) == kIdle) return;  // none but the owner stores it
  // acq_rel: pairs with end_if_unwanted(), which may hold it for a moment
  uint32_t running = kRunning;
  while (!word_.compare_exchange_weak(running, kIdle, std::memory_order_acq_rel,
                                      std::memory_order_relaxed)) {
    running = kRunning;
    std::this_thread::yield();
  }
}

void ActiveRun::end_if_unwanted() {
  uint32_t seen = word_.load(std::memory_order_seq_cst);  // see begin()
  while (seen != kRunning || !word_.compare_exchange_weak(seen, kHeld, std::memory_order_seq_cst)) {
    if (seen == kIdle) return;
    if (seen == kHeld) std::this_thread::yield();
    seen = word_.load(std::memory_order_seq_cst);
  }
  if (!control_->is_terminated() &&
      std::all_of(members_->begin(), members_->end(),
                  [](const Request* member) { return member->is_unwanted(); })) {
    control_->terminate();
  }
  word_.store(kRunning, std::memory_order_release);  // pairs with end()
}

TimePoint ActiveRun::due_at() const {
  const TimePoint since{Nanoseconds(since_.load(std::memory_order_relaxed))};
  const Nanoseconds limit = all_.stuck_after_;
  return limit.count() == 0 || since == kNever ? kNever : since + limit;
}

void ActiveRun::report() {
  const int64_t since = since_.load(std::memory_order_relaxed);
  if (reported_.exchange(since, std::memory_order_relaxed) == since) return;
  std::fprintf(stderr, "pyruntime: %s: %s: a run has not completed within %g s\n",
               all_.label_.c_str(), where_.c_str(),
               std::chrono::duration<double>(all_.stuck_after_).count());
}

ActiveRuns::~ActiveRuns() {
  // A child of fork() has no watchdog but its own.
  if (watchdog_ != nullptr && fork_generation_ == fork_generation()) watchdog_->remove(*this);
}

void ActiveRuns::watch(std::string label, Nanoseconds stuck_after) {
  label_ = std::move(label);
  stuck_after_ = stuck_after;
  if (stuck_after.count() == 0) return;
  watchdog_ = &Watchdog::instance();
  fork_generation_ = fork_generation();
  watchdog_->add(*this);
}

void ActiveRuns::end_unwanted() {
  const std::lock_guard lock(mutex_);
  for (ActiveRun* run : runs_) run->end_if_unwanted();
}

ActiveRuns::Overdue ActiveRuns::overdue() const {
  Overdue overdue;
  const TimePoint now = clock_.now();
  const std::lock_guard lock(mutex_);
  for (const ActiveRun* run : runs_) {
    const TimePoint due_at = run->due_at();
    if (!run->is_running() || due_at > now) continue;
    ++overdue.count;
    overdue.oldest = std::min(overdue.oldest, due_at - stuck_after_);
  }
  return overdue;
}

bool ActiveRuns::look(Nanoseconds* wait) {
  *wait = stuck_after_;
  bool is_any_running = false;
  const TimePoint now = clock_.now();
  const std::lock_guard lock(mutex_);
  for (ActiveRun* run : runs_) {
    if (!run->is_running()) continue;
    is_any_running = true;
    const TimePoint due_at = run->due_at();
    if (due_at <= now) {
      run->report();
    } else {
      *wait = std::min(*wait, due_at - now);
    }
  }
  return is_any_running;
}

}  // namespace pyruntime
