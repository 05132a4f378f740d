// One way of calling a model, measured for a slice of time.
#pragma once

#include <cstdint>
#include <vector>

#include "base/clock.h"

namespace pyruntime {

struct Slice {
  int64_t requests = 0;
  int64_t elapsed_ns = 0;
  std::vector<int64_t> times_ns;  // of requests, each or a sample, in no order

  double requests_per_s() const {
    return 1e9 * static_cast<double>(requests) / static_cast<double>(elapsed_ns);
  }
};

inline TimePoint steady_now() { return std::chrono::steady_clock::now(); }

// Calls `request` again and again, at least once, until the time is up. The
// clock is read once a request: the end of one is the beginning of the next.
template <typename Request>
Slice measure_one_by_one(Nanoseconds time, Request&& request) {
  Slice slice;
  const TimePoint begin = steady_now();
  TimePoint last = begin;
  do {
    request();
    const TimePoint now = steady_now();
    slice.times_ns.push_back((now - last).count());
    last = now;
  } while (last - begin < time);
  slice.requests = static_cast<int64_t>(slice.times_ns.size());
  slice.elapsed_ns = (last - begin).count();
  return slice;
}

}  // namespace pyruntime
