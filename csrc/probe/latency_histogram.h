// Latencies counted in buckets of nearly equal relative width, as in
// HdrHistogram: each power of two of nanoseconds is divided into 128, and what
// is below 256 ns is exact. pyruntime/bench/histogram.py reads the same buckets.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "base/cache_line.h"

namespace pyruntime {

// Threads: add() from any; the rest when nobody adds.
class LatencyHistogram {
 public:
  static constexpr int kBits = 7;
  static constexpr std::size_t kBuckets = (62 - kBits + 2) << kBits;

  static std::size_t bucket_of(int64_t ns) {
    const auto value = static_cast<uint64_t>(std::max<int64_t>(ns, 0));
    const int shift = std::max(static_cast<int>(std::bit_width(value)) - 1 - kBits, 0);
    return (static_cast<std::size_t>(shift) << kBits) + (value >> shift);
  }
  // The middle of a bucket.
  static int64_t ns_of(std::size_t bucket) {
    const int shift = std::max(static_cast<int>(bucket >> kBits) - 1, 0);
    const uint64_t low = (bucket - (static_cast<std::size_t>(shift) << kBits)) << shift;
    return static_cast<int64_t>(low + ((uint64_t{1} << shift) - 1) / 2);
  }

  void add(int64_t ns) {
    ns = std::max<int64_t>(ns, 0);
    Shard& shard = shards_[shard_of_thread()];
    shard.counts[bucket_of(ns)].fetch_add(1, std::memory_order_relaxed);
    shard.sum_ns.fetch_add(ns, std::memory_order_relaxed);
    widen(shard, ns);
  }

  void clear() { shards_ = std::make_unique<Shard[]>(kShards); }

  std::vector<int64_t> counts() const {
    std::vector<int64_t> sums(kBuckets);
    for (std::size_t i = 0; i < kShards; ++i) {
      for (std::size_t bucket = 0; bucket < kBuckets; ++bucket) {
        sums[bucket] += shards_[i].counts[bucket].load(std::memory_order_relaxed);
      }
    }
    return sums;
  }
  int64_t sum_ns() const {
    int64_t sum = 0;
    for (std::size_t i = 0; i < kShards; ++i) sum += shards_[i].sum_ns.load();
    return sum;
  }
  // Of nothing: the largest and 0.
  int64_t min_ns() const {
    int64_t least = kNothing;
    for (std::size_t i = 0; i < kShards; ++i) least = std::min(least, shards_[i].min_ns.load());
    return least;
  }
  int64_t max_ns() const {
    int64_t most = 0;
    for (std::size_t i = 0; i < kShards; ++i) most = std::max(most, shards_[i].max_ns.load());
    return most;
  }

  // So many times that have the same quantiles, sorted; none of nothing.
  std::vector<int64_t> sample(std::size_t size) const {
    const std::vector<int64_t> all = counts();
    int64_t total = 0;
    for (const int64_t count : all) total += count;
    size = std::min(size, static_cast<std::size_t>(total));
    std::vector<int64_t> times;
    int64_t before = 0;
    for (std::size_t bucket = 0; bucket < kBuckets; ++bucket) {
      before += all[bucket];
      // As many as this share of all is of `size`.
      const auto upto = static_cast<std::size_t>(
          static_cast<double>(before) / static_cast<double>(total) * static_cast<double>(size));
      if (all[bucket] != 0 && upto > times.size()) times.resize(upto, ns_of(bucket));
    }
    return times;
  }

 private:
  static constexpr std::size_t kShards = 8;  // so that threads seldom share one
  static constexpr int64_t kNothing = std::numeric_limits<int64_t>::max();

  struct alignas(kCacheLine) Shard {
    std::array<std::atomic<int64_t>, kBuckets> counts{};
    std::atomic<int64_t> sum_ns{0};
    std::atomic<int64_t> min_ns{kNothing};
    std::atomic<int64_t> max_ns{0};
  };

  static std::size_t shard_of_thread() {
    static std::atomic<std::size_t> threads{0};
    thread_local const std::size_t shard = threads.fetch_add(1, std::memory_order_relaxed);
    return shard % kShards;
  }

  static void widen(Shard& shard, int64_t ns) {
    int64_t seen = shard.min_ns.load(std::memory_order_relaxed);
    while (ns < seen && !shard.min_ns.compare_exchange_weak(seen, ns)) {
    }
    seen = shard.max_ns.load(std::memory_order_relaxed);
    while (ns > seen && !shard.max_ns.compare_exchange_weak(seen, ns)) {
    }
  }

  std::unique_ptr<Shard[]> shards_ = std::make_unique<Shard[]>(kShards);
};

}  // namespace pyruntime
