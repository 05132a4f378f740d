// What a load generator saw of the requests that it sent.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/error.h"
#include "probe/latency_histogram.h"

namespace pyruntime {

inline constexpr std::size_t kErrorCodeCount = 9;

struct LoadResult {
  int64_t requests = 0;  // answered with a result
  int64_t elapsed_ns = 0;
  LatencyHistogram latency;  // of these, from the intended send time where there is one
  LatencyHistogram service;  // of these, from the real send time
  LatencyHistogram lag;      // of all sent, how late; empty where no time was intended
  // By ErrorCode, requests that were refused or failed; what a server answers is
  // mapped as its status is.
  std::array<int64_t, kErrorCodeCount> errors{};
  int64_t peak_in_flight = 0;    // over gRPC: what the server took at once, at most
  int64_t generator_cpu_ns = 0;  // of threads that only generate
  std::string first_error;       // its message, empty without one
  std::string ended;             // why it ended before its time, empty otherwise

  void count_error(ErrorCode code) { ++errors[static_cast<std::size_t>(code)]; }
  double requests_per_s() const {
    return elapsed_ns > 0 ? 1e9 * static_cast<double>(requests) / static_cast<double>(elapsed_ns)
                          : 0;
  }
};

}  // namespace pyruntime
