// Counters and latency histograms that cost a relaxed add to keep.
//
// Threads: add(), record() and read() from any. A read beside writers may miss
// the last few of them, never tears a number.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "base/cache_line.h"

namespace pyruntime {

class Counter {
 public:
  void add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t read() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Buckets of a log-linear scale over 64-bit nanoseconds: 16 to each power of
// two, so that a bucket is at most 6.25 % wide (as in HdrHistogram).
struct HistogramScale {
  static constexpr unsigned kSubBits = 4;
  static constexpr unsigned kSub = 1U << kSubBits;
  static constexpr unsigned kBuckets = (64 - kSubBits + 1) * kSub;

  static constexpr unsigned bucket_of(uint64_t ns) {
    if (ns < kSub) return static_cast<unsigned>(ns);
    const unsigned shift = static_cast<unsigned>(std::bit_width(ns)) - 1 - kSubBits;
    return (shift + 1) * kSub + static_cast<unsigned>((ns >> shift) - kSub);
  }
  // The smallest value in `bucket`.
  static constexpr uint64_t lower_bound(unsigned bucket) {
    if (bucket < kSub) return bucket;
    const unsigned shift = bucket / kSub - 1;
    return static_cast<uint64_t>(kSub + bucket % kSub) << shift;
  }
};

// What a histogram held at one moment; add them up to merge.
struct HistogramSnapshot {
  std::array<uint64_t, HistogramScale::kBuckets> buckets{};
  uint64_t count = 0;
  uint64_t sum_ns = 0;
  uint64_t max_ns = 0;

  void merge(const HistogramSnapshot& other);
  // The value below which a share `q` (0 to 1) of the records lies, ns: the
  // middle of its bucket, never above the largest record. 0 when empty.
  double quantile_ns(double q) const;
  double mean_ns() const {
    return count == 0 ? 0.0 : static_cast<double>(sum_ns) / static_cast<double>(count);
  }
};

class Histogram {
 public:
  // n: how many records of this same value.
  void record(int64_t ns, uint64_t n = 1) {
    const uint64_t value = ns < 0 ? 0 : static_cast<uint64_t>(ns);
    buckets_[HistogramScale::bucket_of(value)].fetch_add(n, std::memory_order_relaxed);
    sum_ns_.fetch_add(value * n, std::memory_order_relaxed);
    uint64_t max = max_ns_.load(std::memory_order_relaxed);
    while (value > max && !max_ns_.compare_exchange_weak(max, value, std::memory_order_relaxed)) {
    }
  }

  HistogramSnapshot read() const;

 private:
  std::array<std::atomic<uint64_t>, HistogramScale::kBuckets> buckets_{};
  std::atomic<uint64_t> sum_ns_{0};
  std::atomic<uint64_t> max_ns_{0};
};

}  // namespace pyruntime
