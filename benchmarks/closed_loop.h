// Requests of one row kept in flight: each that is done submits the next, on
// the thread that finished it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <thread>

#include "base/cache_line.h"
#include "base/error.h"
#include "figures.h"
#include "served_model.h"

namespace pyruntime::bench {

// Threads: one user.
class ClosedLoop {
 public:
  explicit ClosedLoop(const ServedModel& served) : served_(served) {}
  ~ClosedLoop() { end(); }

  ClosedLoop(const ClosedLoop&) = delete;
  ClosedLoop& operator=(const ClosedLoop&) = delete;

  void start(int in_flight) {
    stops_ = false;
    left_ = in_flight;
    for (int i = 0; i < in_flight; ++i) follow();
  }

  // Rows done since construction.
  int64_t done() const { return done_.load(std::memory_order_relaxed); }

  // Waits for what is in flight; throws what the first failure said.
  void stop() {
    end();
    const std::lock_guard lock(mutex_);
    first_failure_.throw_if_failed();
  }

  // Rows per second of so many in flight for so long.
  double rate(int in_flight, std::chrono::nanoseconds length) {
    start(in_flight);
    std::this_thread::sleep_for(length / 10);  // until it runs evenly
    const int64_t before = done();
    const auto begin = SteadyTime::now();
    std::this_thread::sleep_for(length);
    const auto rows = static_cast<double>(done() - before);
    const double elapsed = seconds_since(begin);
    stop();
    return rows / elapsed;
  }

 private:
  void end() {
    stops_ = true;
    while (left_.load() != 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }

  void follow() {
    const RequestRef request = served_.new_request();
    request->on_complete = [](void* context, Request& done) noexcept {
      static_cast<ClosedLoop*>(context)->finish(done.status);
    };
    request->context = this;
    if (Status status = served_.model().submit(request); !status.ok()) leave(std::move(status));
  }

  void finish(const Status& status) {
    if (!status.ok()) return leave(status);
    done_.fetch_add(1, std::memory_order_relaxed);
    if (stops_.load(std::memory_order_relaxed)) return leave({});
    follow();
  }

  // The last touch of this object by one of those in flight.
  void leave(Status status) {
    if (!status.ok()) {
      const std::lock_guard lock(mutex_);
      if (first_failure_.ok()) first_failure_ = std::move(status);
    }
    left_.fetch_sub(1);
  }

  const ServedModel& served_;
  std::atomic<bool> stops_{true};
  alignas(kCacheLine) std::atomic<int64_t> done_{0};
  std::atomic<int> left_{0};  // in flight

  std::mutex mutex_;
  Status first_failure_;  // guarded by mutex_
};

}  // namespace pyruntime::bench
