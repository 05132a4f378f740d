// Requests in flight without a thread for each: whoever completes one sends the
// next. It is the least that a caller can cost, and so shows the core alone.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/cache_line.h"
#include "probe/load_result.h"
#include "probe/sender.h"
#include "probe/slice.h"

namespace pyruntime {

// Threads: one user at a time.
template <typename Sender = ModelSender>
class ClosedLoop {
 public:
  struct Options {
    std::size_t in_flight = 1;
    // Reading the clock for every request would show beside a small model's run.
    int64_t timed_one_in = 8;
    // Count what fails and go on; otherwise stop() throws the first failure.
    bool goes_on_after_failure = false;
  };

  // `sender` must outlive it.
  ClosedLoop(Sender& sender, Options options)
      : sender_(sender), options_(options), callers_(options.in_flight) {
    for (Caller& caller : callers_) caller.loop = this;
  }
  ~ClosedLoop() { end(); }
  ClosedLoop(const ClosedLoop&) = delete;
  ClosedLoop& operator=(const ClosedLoop&) = delete;

  void start() {
    stops_.store(false, std::memory_order_relaxed);
    left_.store(callers_.size(), std::memory_order_relaxed);
    latency_.clear();
    began_at_ = steady_now();
    for (Caller& caller : callers_) {
      caller.requests.store(0, std::memory_order_relaxed);
      caller.errors = {};
      follow(caller);
    }
  }

  // Requests answered with a result since start().
  int64_t done() const {
    int64_t sum = 0;
    for (const Caller& caller : callers_) sum += caller.requests.load(std::memory_order_relaxed);
    return sum;
  }

  // Lets callers that were refused try again.
  void follow_rested() {
    for (Caller& caller : callers_) {
      // acquire: pairs with the release in refuse()
      if (caller.rests.exchange(false, std::memory_order_acquire)) follow(caller);
    }
  }

  // Waits for those in flight.
  LoadResult stop() {
    end();
    LoadResult result;
    TimePoint last = began_at_;
    for (Caller& caller : callers_) {
      if (!options_.goes_on_after_failure) caller.failure.throw_if_failed();
      if (result.first_error.empty()) result.first_error = caller.failure.message();
      caller.failure = {};
      result.requests += caller.requests.load(std::memory_order_relaxed);
      for (std::size_t i = 0; i < kErrorCodeCount; ++i) result.errors[i] += caller.errors[i];
      last = std::max(last, caller.left_at);
    }
    result.elapsed_ns = (last - began_at_).count();
    result.latency = std::exchange(latency_, LatencyHistogram());
    return result;
  }

  LoadResult measure(Nanoseconds time) {
    start();
    if (options_.goes_on_after_failure) {
      for (const TimePoint until = began_at_ + time; steady_now() < until;) {
        std::this_thread::sleep_until(std::min(until, steady_now() + kRest));
        follow_rested();
      }
    } else {
      std::this_thread::sleep_until(began_at_ + time);
    }
    return stop();
  }

 private:
  static constexpr std::chrono::milliseconds kRest{1};

  // One request at a time; its lines belong to whoever sends or completes it.
  struct alignas(kCacheLine) Caller {
    ClosedLoop* loop = nullptr;
    std::atomic<int64_t> requests{0};  // written by one at a time
    std::atomic<bool> rests{false};
    TimePoint sent_at{};
    TimePoint left_at{};
    Status failure;  // the first
    std::array<int64_t, kErrorCodeCount> errors{};

    bool is_timed() const {
      return requests.load(std::memory_order_relaxed) % loop->options_.timed_one_in == 0;
    }
    void finish(const Status& status) noexcept { loop->finish(*this, status); }
  };

  void follow(Caller& caller) {
    if (caller.is_timed()) caller.sent_at = steady_now();
    if (Status status = sender_.send(caller); !status.ok()) refuse(caller, status);
  }

  void finish(Caller& caller, const Status& status) {
    if (status.ok()) {
      if (caller.is_timed()) latency_.add((steady_now() - caller.sent_at).count());
      // A plain increment, but one that done() may read meanwhile.
      const int64_t requests = caller.requests.load(std::memory_order_relaxed);
      caller.requests.store(requests + 1, std::memory_order_relaxed);
    } else {
      count_error(caller, status);
    }
    if (stops_.load(std::memory_order_relaxed) ||
        (!status.ok() && !options_.goes_on_after_failure)) {
      leave(caller);
    } else {
      follow(caller);
    }
  }

  // Sending again at once would go round without end.
  void refuse(Caller& caller, const Status& status) {
    count_error(caller, status);
    if (!options_.goes_on_after_failure) return leave(caller);
    caller.rests.store(true, std::memory_order_release);  // pairs with follow_rested()
  }

  static void count_error(Caller& caller, const Status& status) {
    ++caller.errors[static_cast<std::size_t>(status.code())];
    if (caller.failure.ok()) caller.failure = status;
  }

  // The last that touches the loop for this caller.
  void leave(Caller& caller) {
    caller.left_at = steady_now();
    left_.fetch_sub(1, std::memory_order_release);  // pairs with the acquire in end()
  }

  void end() {
    stops_.store(true, std::memory_order_relaxed);
    // acquire: what the callers wrote before they left
    while (left_.load(std::memory_order_acquire) != 0) {
      for (Caller& caller : callers_) {
        if (caller.rests.exchange(false, std::memory_order_acquire)) leave(caller);
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  Sender& sender_;
  const Options options_;
  std::vector<Caller> callers_;
  TimePoint began_at_{};
  std::atomic<bool> stops_{true};
  std::atomic<std::size_t> left_{0};
  LatencyHistogram latency_;
};

}  // namespace pyruntime
