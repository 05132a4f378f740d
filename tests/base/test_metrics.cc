#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "base/metrics.h"

using pyruntime::Counter;
using pyruntime::Histogram;
using pyruntime::HistogramScale;
using pyruntime::HistogramSnapshot;
using pyruntime::SoleCounter;
using pyruntime::SoleHistogram;

TEST_CASE("every value lies in the bucket that begins at or below it") {
  std::mt19937_64 random(1);
  std::vector<uint64_t> values{0, 1, 15, 16, 17, 31, 32, 33, 1000, UINT64_MAX - 1, UINT64_MAX};
  for (int i = 0; i < 10000; ++i) values.push_back(random() >> (random() % 64));
  for (const uint64_t value : values) {
    const unsigned bucket = HistogramScale::bucket_of(value);
    REQUIRE(bucket < HistogramScale::kBuckets);
    const uint64_t low = HistogramScale::lower_bound(bucket);
    REQUIRE(low <= value);
    if (bucket + 1 == HistogramScale::kBuckets) continue;
    const uint64_t high = HistogramScale::lower_bound(bucket + 1);
    REQUIRE(value < high);
    // 6.25 % wide at most
    REQUIRE((high - low <= 1 || (high - low) * 16 <= low));
  }
}

TEST_CASE("an empty histogram answers zero") {
  const HistogramSnapshot empty = Histogram().read();
  CHECK(empty.count == 0);
  CHECK(empty.quantile_ns(0.5) == 0.0);
  CHECK(empty.mean_ns() == 0.0);
}

TEST_CASE("quantiles of a uniform spread are right within a bucket") {
  Histogram histogram;
  for (int64_t ns = 1; ns <= 100'000; ++ns) histogram.record(ns);
  const HistogramSnapshot snapshot = histogram.read();
  CHECK(snapshot.count == 100'000);
  CHECK(snapshot.max_ns == 100'000);
  CHECK(snapshot.mean_ns() == doctest::Approx(50'000.5));
  for (const double q : {0.01, 0.5, 0.9, 0.99, 0.999}) {
    CHECK(snapshot.quantile_ns(q) == doctest::Approx(q * 100'000).epsilon(0.0625));
  }
  CHECK(snapshot.quantile_ns(1.0) <= 100'000.0);
  CHECK(snapshot.quantile_ns(2.0) == snapshot.quantile_ns(1.0));
  CHECK(snapshot.quantile_ns(-1.0) == snapshot.quantile_ns(0.0));
}

TEST_CASE("a negative time is recorded as zero") {
  Histogram histogram;
  histogram.record(-5);
  const HistogramSnapshot snapshot = histogram.read();
  CHECK(snapshot.count == 1);
  CHECK(snapshot.buckets[0] == 1);
  CHECK(snapshot.sum_ns == 0);
}

TEST_CASE("a record of several counts as many") {
  Histogram histogram;
  histogram.record(100, 3);
  CHECK(histogram.read().count == 3);
  CHECK(histogram.read().sum_ns == 300);
}

TEST_CASE("merged snapshots equal one histogram of both") {
  Histogram a;
  Histogram b;
  Histogram both;
  for (int64_t ns = 0; ns < 5000; ns += 7) {
    (ns % 2 == 0 ? a : b).record(ns);
    both.record(ns);
  }
  HistogramSnapshot merged = a.read();
  merged.merge(b.read());
  const HistogramSnapshot expected = both.read();
  CHECK(merged.buckets == expected.buckets);
  CHECK(merged.count == expected.count);
  CHECK(merged.sum_ns == expected.sum_ns);
  CHECK(merged.max_ns == expected.max_ns);
}

TEST_CASE("a sole writer counts as many would, beside readers") {
  SoleCounter counter;
  SoleHistogram histogram;
  Histogram expected;
  std::thread reader([&] {
    uint64_t last = 0;
    while (last < 20000) {
      const uint64_t now = counter.read();
      CHECK(now >= last);
      CHECK(histogram.read().count >= now);  // recorded before it was counted
      last = now;
    }
  });
  for (int64_t i = 0; i < 20000; ++i) {
    histogram.record(i * 37 % 5000);
    expected.record(i * 37 % 5000);
    counter.add();
  }
  reader.join();
  CHECK(counter.read() == 20000);
  CHECK(histogram.read().buckets == expected.read().buckets);
  CHECK(histogram.read().sum_ns == expected.read().sum_ns);
  CHECK(histogram.read().max_ns == 4999);
}

TEST_CASE("counts from several threads all arrive") {
  constexpr int kThreads = 4;
  constexpr int kEach = 20000;
  Counter counter;
  Histogram histogram;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        counter.add();
        histogram.record(t * kEach + i);
        if (i % 1000 == 0) (void)histogram.read().quantile_ns(0.5);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(counter.read() == uint64_t{kThreads} * kEach);
  CHECK(histogram.read().count == uint64_t{kThreads} * kEach);
  CHECK(histogram.read().max_ns == uint64_t{kThreads} * kEach - 1);
}
