// Requests in flight without a thread for each: whoever completes one submits
// the next. It is the least that a caller can cost, and so shows the core alone.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>
#include <vector>

#include "base/cache_line.h"
#include "probe/slice.h"
#include "serving/model.h"

namespace pyruntime {

// A request for `inputs`, which must outlive it, in the signature's order.
inline RequestRef make_request(ModelVersion& model, std::span<const Tensor> inputs) {
  RequestRef request = model.new_request();
  std::ranges::copy(inputs, request->inputs.begin());
  return request;
}

// Threads: one user at a time.
class ClosedLoop {
 public:
  // `model` and the memory of `inputs` must outlive it.
  ClosedLoop(ModelVersion& model, std::span<const Tensor> inputs, std::size_t in_flight)
      : model_(model), inputs_(inputs.begin(), inputs.end()), callers_(in_flight) {
    for (Caller& caller : callers_) caller.loop = this;
  }
  ClosedLoop(const ClosedLoop&) = delete;
  ClosedLoop& operator=(const ClosedLoop&) = delete;

  // Keeps them in flight until the time is up, then waits for those that are.
  // Throws what a request failed with.
  Slice measure(Nanoseconds time) {
    stops_.store(false, std::memory_order_relaxed);
    left_.store(callers_.size(), std::memory_order_relaxed);
    const TimePoint begin = steady_now();
    for (Caller& caller : callers_) {
      caller.requests = 0;
      caller.times_ns.clear();
      follow(caller);
    }
    std::this_thread::sleep_until(begin + time);
    stops_.store(true, std::memory_order_relaxed);
    // acquire: what the callers wrote before they left
    while (left_.load(std::memory_order_acquire) != 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }

    Slice slice;
    TimePoint end = begin;
    for (const Caller& caller : callers_) {
      caller.failure.throw_if_failed();
      slice.requests += caller.requests;
      slice.times_ns.insert(slice.times_ns.end(), caller.times_ns.begin(), caller.times_ns.end());
      end = std::max(end, caller.left_at);
    }
    slice.elapsed_ns = (end - begin).count();
    return slice;
  }

 private:
  // Reading the clock for every request would show beside a small model's run.
  static constexpr int64_t kTimedOneIn = 8;

  // One request at a time; its lines belong to whoever submits or completes it.
  struct alignas(kCacheLine) Caller {
    ClosedLoop* loop = nullptr;
    int64_t requests = 0;
    TimePoint submitted_at{};
    TimePoint left_at{};
    Status failure;
    std::vector<int64_t> times_ns;

    bool is_timed() const { return requests % kTimedOneIn == 0; }
  };

  void follow(Caller& caller) {
    const RequestRef request = make_request(model_, inputs_);
    request->on_complete = &ClosedLoop::complete;
    request->context = &caller;
    if (caller.is_timed()) caller.submitted_at = steady_now();
    if (Status status = model_.submit(request); !status.ok()) leave(caller, std::move(status));
  }

  static void complete(void* context, Request& request) noexcept {
    auto& caller = *static_cast<Caller*>(context);
    ClosedLoop& loop = *caller.loop;
    if (caller.is_timed()) {
      caller.times_ns.push_back((steady_now() - caller.submitted_at).count());
    }
    ++caller.requests;
    if (loop.stops_.load(std::memory_order_relaxed) || !request.status.ok()) {
      loop.leave(caller, request.status);
    } else {
      loop.follow(caller);
    }
  }

  // The last that touches the loop for this caller.
  void leave(Caller& caller, Status status) {
    caller.failure = std::move(status);
    caller.left_at = steady_now();
    left_.fetch_sub(1, std::memory_order_release);  // pairs with the acquire in measure()
  }

  ModelVersion& model_;
  const std::vector<Tensor> inputs_;
  std::vector<Caller> callers_;
  std::atomic<bool> stops_{false};
  std::atomic<std::size_t> left_{0};
};

}  // namespace pyruntime
