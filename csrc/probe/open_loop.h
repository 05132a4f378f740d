// Requests that arrive whether or not others are answered, as those of many
// independent clients do.
//
// Each has a time at which it is meant to be sent. Its latency and its deadline
// count from there, not from when the generator came to it: a generator that is
// held up would otherwise hide what its clients wait (coordinated omission).
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/cache_line.h"
#include "probe/load_result.h"
#include "probe/sender.h"
#include "probe/slice.h"

namespace pyruntime {

// When requests arrive, from the beginning: a Poisson process.
inline std::vector<Nanoseconds> poisson_arrivals(double rate_per_s, Nanoseconds length,
                                                 std::mt19937_64& random) {
  std::exponential_distribution<double> gap_ns(rate_per_s / 1e9);
  std::vector<Nanoseconds> arrivals;
  double at = gap_ns(random);
  while (at < static_cast<double>(length.count())) {
    arrivals.emplace_back(static_cast<int64_t>(at));
    at += gap_ns(random);
  }
  return arrivals;
}

// One request, and what became of it.
struct Arrival {
  TimePoint intended;
  Nanoseconds lag{0};      // sent that long after `intended`
  Nanoseconds latency{0};  // from `intended` until it was answered
  ErrorCode outcome = ErrorCode::kOk;
  bool is_accepted = false;
  std::atomic<int64_t>* left = nullptr;

  void finish(const Status& status) noexcept {
    latency = steady_now() - intended;
    outcome = status.code();
    left->fetch_sub(1, std::memory_order_release);  // pairs with the acquire in offer()
  }
};

// Threads: one user, whose thread becomes the generator.
template <typename Sender = ModelSender>
class OpenLoop {
 public:
  // `sender` must outlive it. deadline: of each request, from its arrival.
  explicit OpenLoop(Sender& sender, Nanoseconds deadline = Nanoseconds::max())
      : sender_(sender), deadline_(deadline) {}

  // Sends one at each time from now, then waits until all that were accepted
  // are answered. What it returns is valid until the next call.
  const std::vector<Arrival>& offer(std::span<const Nanoseconds> times) {
    // All memory is touched beforehand: nothing but sending is left.
    arrivals_.assign(times.size(), Arrival{});
    left_.store(0, std::memory_order_relaxed);
    began_at_ = steady_now() + kHeadStart;
    for (std::size_t i = 0; i < times.size(); ++i) {
      arrivals_[i].intended = began_at_ + times[i];
      arrivals_[i].left = &left_;
    }
    const int64_t cpu_before = thread_cpu_ns();
    for (Arrival& arrival : arrivals_) {
      arrival.lag = wait_until(arrival.intended) - arrival.intended;
      const TimePoint deadline =
          deadline_ == Nanoseconds::max() ? kNever : arrival.intended + deadline_;
      left_.fetch_add(1, std::memory_order_relaxed);
      Status status = sender_.send(arrival, deadline);
      // Not written by finish(), which may be under way.
      arrival.is_accepted = status.ok();
      if (!status.ok()) {
        arrival.outcome = status.code();
        left_.fetch_sub(1, std::memory_order_relaxed);
        if (first_refusal_.ok()) first_refusal_ = std::move(status);
      }
    }
    cpu_ns_ = thread_cpu_ns() - cpu_before;
    // acquire: what finish() wrote
    while (left_.load(std::memory_order_acquire) != 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return arrivals_;
  }

  // The same, in sum. length: of the arrivals, at least.
  LoadResult measure(std::span<const Nanoseconds> times, Nanoseconds length) {
    first_refusal_ = {};
    LoadResult result;
    TimePoint last = TimePoint{};
    for (const Arrival& arrival : offer(times)) {
      result.lag.add(arrival.lag.count());
      if (arrival.outcome != ErrorCode::kOk) {
        result.count_error(arrival.outcome);
        continue;
      }
      ++result.requests;
      result.latency.add(arrival.latency.count());
      result.service.add((arrival.latency - arrival.lag).count());
      last = std::max(last, arrival.intended + arrival.latency);
    }
    result.elapsed_ns = std::max(length, last - began_at_).count();
    result.generator_cpu_ns = cpu_ns_;
    result.first_error = first_refusal_.message();
    return result;
  }

 private:
  static int64_t thread_cpu_ns() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  }

  // Sleeps while that is precise enough, then spins. Returns the time.
  static TimePoint wait_until(TimePoint time) {
    TimePoint now = steady_now();
    if (time - now > 2 * kSleepOvershoot) std::this_thread::sleep_until(time - kSleepOvershoot);
    while ((now = steady_now()) < time) cpu_relax();
    return now;
  }

  static constexpr Nanoseconds kHeadStart{1'000'000};
  static constexpr Nanoseconds kSleepOvershoot{100'000};

  Sender& sender_;
  const Nanoseconds deadline_;
  std::vector<Arrival> arrivals_;
  TimePoint began_at_{};
  int64_t cpu_ns_ = 0;
  Status first_refusal_;
  std::atomic<int64_t> left_{0};  // accepted or being sent, and not answered
};

}  // namespace pyruntime
