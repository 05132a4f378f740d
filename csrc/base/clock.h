// Time as the core sees it; tests put a manual clock in its place.
#pragma once

#include <atomic>
#include <chrono>

namespace pyruntime {

using Nanoseconds = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Nanoseconds>;

inline constexpr TimePoint kNever = TimePoint::max();

// Threads: now() from any.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;
};

class SteadyClock final : public Clock {
 public:
  TimePoint now() const override { return std::chrono::steady_clock::now(); }

  // Lives as long as the process.
  static const SteadyClock& instance();
};

// Stands still until advanced.
class ManualClock final : public Clock {
 public:
  TimePoint now() const override {
    return TimePoint(Nanoseconds(now_ns_.load(std::memory_order_relaxed)));
  }
  void advance(Nanoseconds by) { now_ns_.fetch_add(by.count(), std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> now_ns_{1'000'000'000};
};

inline const SteadyClock& SteadyClock::instance() {
  static const SteadyClock clock;
  return clock;
}

}  // namespace pyruntime
