// Requests of one row that arrive whether or not others are answered, as those
// of many independent clients do: a Poisson process.
//
// Each has a time at which it is meant to be sent. Its latency and its deadline
// count from there, not from when the generator came to it: a generator that is
// held up would otherwise hide what its clients wait (coordinated omission).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include "base/cache_line.h"
#include "base/clock.h"
#include "base/error.h"
#include "figures.h"
#include "served_model.h"

namespace pyruntime::bench {

// One request, and what became of it.
struct Arrival {
  TimePoint intended;
  Nanoseconds lag{0};      // sent that long after `intended`
  Nanoseconds latency{0};  // from `intended` until it was answered
  ErrorCode outcome = ErrorCode::kOk;
  bool is_accepted = false;
};

// Threads: one user, whose thread becomes the generator.
class OpenLoop {
 public:
  OpenLoop(const ServedModel& served, Nanoseconds deadline)
      : served_(served), deadline_(deadline) {}

  // Offers `rate` requests per second for `length`, then waits until all that
  // were accepted are answered. The arrivals are valid until the next call.
  const std::vector<Arrival>& offer(double rate, Nanoseconds length) {
    plan(rate, length);
    for (Arrival& arrival : arrivals_) {
      arrival.lag = wait_until(arrival.intended) - arrival.intended;
      const RequestRef request = served_.new_request();
      request->deadline = arrival.intended + deadline_;
      request->context = &arrival;
      request->on_complete = [](void* context, Request& done) noexcept {
        Arrival& of = *static_cast<Arrival*>(context);
        of.latency = std::chrono::steady_clock::now() - of.intended;
        of.outcome = done.status.code();
      };
      const Status status = served_.model().submit(request);
      // Not written by on_complete, which may be under way.
      arrival.is_accepted = status.ok();
      if (!status.ok()) arrival.outcome = status.code();
    }
    while (served_.model().outstanding() != 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return arrivals_;
  }

 private:
  // All drawn and their memory touched beforehand: nothing but sending is left.
  void plan(double rate, Nanoseconds length) {
    std::exponential_distribution<double> gap_s(rate);
    arrivals_.clear();
    const TimePoint start = std::chrono::steady_clock::now();
    const auto gap = [&] { return to_nanoseconds(gap_s(random_)); };
    for (Nanoseconds at = gap(); at < length; at += gap()) {
      arrivals_.push_back({.intended = start + at});
    }
    const Nanoseconds planning = std::chrono::steady_clock::now() - start;
    for (Arrival& arrival : arrivals_) arrival.intended += planning + kHeadStart;
  }

  // Sleeps while that is precise enough, then spins. Returns the time.
  static TimePoint wait_until(TimePoint time) {
    TimePoint now = std::chrono::steady_clock::now();
    if (time - now > 2 * kSleepOvershoot) std::this_thread::sleep_until(time - kSleepOvershoot);
    while ((now = std::chrono::steady_clock::now()) < time) cpu_relax();
    return now;
  }

  static constexpr Nanoseconds kHeadStart{1'000'000};
  static constexpr Nanoseconds kSleepOvershoot{100'000};

  const ServedModel& served_;
  const Nanoseconds deadline_;
  // NOLINTNEXTLINE(bugprone-random-generator-seed): the same arrivals in every program run
  std::mt19937_64 random_{1};
  std::vector<Arrival> arrivals_;
};

}  // namespace pyruntime::bench
