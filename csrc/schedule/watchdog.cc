#include "schedule/watchdog.h"

#include <algorithm>
#include <string>
#include <system_error>
#include <utility>

#include <pthread.h>

#include "base/error.h"
#include "base/fork.h"
#include "schedule/active_runs.h"

namespace pyruntime {
namespace {

struct OfProcess {
  const uint64_t fork_generation = pyruntime::fork_generation();
  Watchdog watchdog;
};

}  // namespace

Watchdog& Watchdog::instance() {
  // Without a lock, which a fork() might have caught while it was held.
  static std::atomic<OfProcess*> current{nullptr};
  OfProcess* seen = current.load(std::memory_order_acquire);
  if (seen != nullptr && seen->fork_generation == fork_generation()) return seen->watchdog;
  auto* const made = new OfProcess;
  if (current.compare_exchange_strong(seen, made, std::memory_order_acq_rel)) return made->watchdog;
  delete made;
  return seen->watchdog;
}

void Watchdog::add(ActiveRuns& runs) {
  const std::lock_guard lock(mutex_);
  if (models_.empty()) {
    try {
      thread_ = std::jthread([this](const std::stop_token& stop) {
        pthread_setname_np(pthread_self(), "pyrt-watchdog");
        watch(stop);
      });
    } catch (const std::system_error& error) {
      throw Error(ErrorCode::kOverloaded,
                  std::string("no thread could be started for the watchdog: ") + error.what());
    }
  }
  models_.push_back(&runs);
  events_.notify_all();  // its limit may be shorter
}

void Watchdog::remove(ActiveRuns& runs) {
  std::jthread ended;
  {
    const std::lock_guard lock(mutex_);
    std::erase(models_, &runs);
    if (!models_.empty()) return;
    ended = std::move(thread_);
    ended.request_stop();  // before another may be started
  }
  events_.notify_all();
}  // joins it

void Watchdog::wake() {
  is_asleep_.store(false, std::memory_order_relaxed);
  events_.notify_all();
}

void Watchdog::watch(const std::stop_token& stop) {
  for (;;) {
    const EventCount::Ticket ticket = events_.prepare_wait();
    bool is_any_running = false;
    Nanoseconds wait = Nanoseconds::max();
    {
      const std::lock_guard lock(mutex_);
      if (stop.stop_requested()) {
        events_.cancel_wait();
        return;
      }
      is_asleep_.store(true, std::memory_order_seq_cst);  // see ActiveRun::begin()
      for (ActiveRuns* runs : models_) {
        Nanoseconds until = Nanoseconds::max();
        is_any_running = runs->look(&until) || is_any_running;
        wait = std::min(wait, until);
      }
      if (is_any_running) is_asleep_.store(false, std::memory_order_relaxed);
    }
    events_.wait(ticket, is_any_running ? wait : Nanoseconds(-1));
  }
}

}  // namespace pyruntime
