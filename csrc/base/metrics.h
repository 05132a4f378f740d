// Counters and latency histograms that cost an add to keep.
//
// Threads: read() from any; add() and record() from any too, or with
// Writers::kOne from one at a time. A read beside writers may miss the last few
// of them, never tears a number.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "base/cache_line.h"

namespace pyruntime {

// How many threads may write at once. One needs no read-modify-write, which
// costs ten times what a load and a store do; whoever hands the writing on must
// do so by a release and an acquire.
enum class Writers : uint8_t { kMany, kOne };

template <Writers writers>
class BasicCounter {
 public:
  void add(uint64_t n = 1) {
    // release: who has read a count sees what its writer did before
    if constexpr (writers == Writers::kOne) {
      value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_release);
    } else {
      value_.fetch_add(n, std::memory_order_release);
    }
  }
  void raise_to(uint64_t n) {
    uint64_t value = value_.load(std::memory_order_relaxed);
    if constexpr (writers == Writers::kOne) {
      if (n > value) value_.store(n, std::memory_order_relaxed);
    } else {
      while (n > value && !value_.compare_exchange_weak(value, n, std::memory_order_relaxed)) {
      }
    }
  }
  uint64_t read() const { return value_.load(std::memory_order_acquire); }

 private:
  std::atomic<uint64_t> value_{0};
};

using Counter = BasicCounter<Writers::kMany>;
using SoleCounter = BasicCounter<Writers::kOne>;

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

template <Writers writers>
class BasicHistogram {
 public:
  // n: how many records of this same value.
  void record(int64_t ns, uint64_t n = 1) {
    const uint64_t value = count(ns, n);
    sum_ns_.add(value * n);
    max_ns_.raise_to(value);
  }

  // Many records, of which the sum and the largest are noted once, when it ends.
  class Records {
   public:
    explicit Records(BasicHistogram& histogram) : histogram_(histogram) {}
    ~Records() {
      histogram_.sum_ns_.add(sum_ns_);
      histogram_.max_ns_.raise_to(max_ns_);
    }
    Records(const Records&) = delete;
    Records& operator=(const Records&) = delete;

    void add(int64_t ns) {
      const uint64_t value = histogram_.count(ns, 1);
      sum_ns_ += value;
      max_ns_ = std::max(max_ns_, value);
    }

   private:
    BasicHistogram& histogram_;
    uint64_t sum_ns_ = 0;
    uint64_t max_ns_ = 0;
  };

  HistogramSnapshot read() const {
    HistogramSnapshot snapshot;
    for (unsigned i = 0; i < HistogramScale::kBuckets; ++i) {
      snapshot.buckets[i] = buckets_[i].read();
      snapshot.count += snapshot.buckets[i];
    }
    snapshot.sum_ns = sum_ns_.read();
    snapshot.max_ns = max_ns_.read();
    return snapshot;
  }

 private:
  // In its bucket alone; returns what it counts as.
  uint64_t count(int64_t ns, uint64_t n) {
    const uint64_t value = ns < 0 ? 0 : static_cast<uint64_t>(ns);
    buckets_[HistogramScale::bucket_of(value)].add(n);
    return value;
  }

  std::array<BasicCounter<writers>, HistogramScale::kBuckets> buckets_{};
  BasicCounter<writers> sum_ns_, max_ns_;
};

using Histogram = BasicHistogram<Writers::kMany>;
using SoleHistogram = BasicHistogram<Writers::kOne>;

}  // namespace pyruntime
