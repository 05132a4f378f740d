// Whether a core is to spare for a thread that would rather spin than sleep.
//
// Waking a sleeping thread costs some 20 us, meeting a spinning one 65 ns. But
// a spinner on a core that someone needs costs more than it gains, so threads
// that run or spin are counted, and one spins only while there are fewer than
// cores. Threads of other processes are not seen, but felt: a spinner that has
// lost its core for a while tells, and then nobody spins for some time.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/cache_line.h"

namespace pyruntime {

inline constexpr std::chrono::microseconds kSpinLimit{25};  // near the cost of a wake-up

// Threads: all calls from any.
class CoreBudget {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // A spinner looks at the clock every microsecond or so; after so long it has not run.
  static constexpr std::chrono::microseconds kGap{30};
  static constexpr std::chrono::milliseconds kCrowdedFor{10};

  // Of this process, from the cores that it may use when first asked.
  static CoreBudget& instance();

  explicit CoreBudget(int cores) : cores_(cores) {}

  int cores() const { return cores_; }

  void begin_run() { busy_.fetch_add(1, std::memory_order_relaxed); }
  void end_run() { busy_.fetch_sub(1, std::memory_order_relaxed); }

  // True if the caller may spin; it must end_run() then.
  bool try_begin_spin(Time now) {
    if (now.time_since_epoch().count() < crowded_until_.load(std::memory_order_relaxed)) {
      return false;
    }
    if (busy_.fetch_add(1, std::memory_order_relaxed) < cores_) return true;
    end_run();
    return false;
  }

  // Of a spinner, which looked at the clock then and now: whether it had a core meanwhile.
  bool had_core(Time then, Time now) {
    if (now - then < kGap) return true;
    crowded_until_.store((now + kCrowdedFor).time_since_epoch().count(), std::memory_order_relaxed);
    return false;
  }

 private:
  const int cores_;
  alignas(kCacheLine) std::atomic<int> busy_{0};
  alignas(kCacheLine) std::atomic<int64_t> crowded_until_{0};  // ticks of the steady clock
};

// Calls `found` again and again until it returns true, the time is up or no
// core is to spare. Returns whether it did.
template <typename Found>
bool spin_until(CoreBudget& budget, Found&& found) {
  if (found()) return true;
  auto now = std::chrono::steady_clock::now();
  if (!budget.try_begin_spin(now)) return false;
  const auto end = now + kSpinLimit;
  bool is_found = false;
  bool had_core = true;
  do {
    for (int i = 0; i < 16 && !is_found; ++i) {
      cpu_relax();
      is_found = found();
    }
    const auto then = now;
    now = std::chrono::steady_clock::now();
    had_core = budget.had_core(then, now);
  } while (!is_found && had_core && now < end);
  budget.end_run();
  return is_found;
}

}  // namespace pyruntime
