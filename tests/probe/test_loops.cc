// The load generators' accounting, on a sender whose delays and stalls are known.
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "probe/closed_loop.h"
#include "probe/open_loop.h"

namespace pyruntime {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

int64_t count_of(const LatencyHistogram& histogram) {
  const std::vector<int64_t> counts = histogram.counts();
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

// Refuses every third request and fails every fifth; answers the others at once.
struct FaultySender {
  template <typename Caller>
  Status send(Caller& caller, TimePoint /*deadline*/ = kNever) {
    const int64_t number = ++sent;
    if (number % 3 == 0) return {ErrorCode::kOverloaded, "full"};
    if (number % 5 == 0) {
      null.send(caller_of(caller, Status(ErrorCode::kEngineError, "broken"))).throw_if_failed();
    } else {
      null.send(caller_of(caller, Status())).throw_if_failed();
    }
    return {};
  }

  // Passes a status of ours on.
  template <typename Caller>
  struct Relay {
    Caller* caller;
    Status status;
    void finish(const Status& /*ok*/) {
      Caller& to = *caller;
      const Status what = std::move(status);
      delete this;
      to.finish(what);
    }
  };
  template <typename Caller>
  static Relay<Caller>& caller_of(Caller& caller, Status status) {
    return *new Relay<Caller>{&caller, std::move(status)};
  }

  std::atomic<int64_t> sent{0};
  NullSender null;
};

// Answers within send(); blocks in it for `stall` at one request, as a client that waits does.
struct StallingSender {
  template <typename Caller>
  Status send(Caller& caller, TimePoint /*deadline*/ = kNever) {
    if (++sent == stalls_at) std::this_thread::sleep_for(stall);
    caller.finish(Status());
    return {};
  }
  int64_t stalls_at = 0;
  Nanoseconds stall{0};
  int64_t sent = 0;
};

TEST_CASE("a bucket holds its times, and its middle is within half its width") {
  for (int64_t ns : {0, 1, 127, 128, 255, 256, 257, 1000, 123456, 987654321}) {
    const int64_t middle = LatencyHistogram::ns_of(LatencyHistogram::bucket_of(ns));
    CHECK(std::abs(middle - ns) <= ns / 256 + 1);
    if (ns < 256) CHECK(middle == ns);
  }
  CHECK(LatencyHistogram::bucket_of(INT64_MAX) < LatencyHistogram::kBuckets);
  CHECK(LatencyHistogram::bucket_of(-5) == 0);
}

TEST_CASE("a histogram counts from many threads without losing one") {
  LatencyHistogram histogram;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int64_t ns = 1; ns <= 10'000; ++ns) histogram.add(ns);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(count_of(histogram) == 40'000);
  CHECK(histogram.min_ns() == 1);
  CHECK(histogram.max_ns() == 10'000);
  CHECK(histogram.sum_ns() == 4 * 50'005'000);
}

TEST_CASE("a sample has the quantiles of all") {
  LatencyHistogram histogram;
  for (int64_t ns = 1000; ns < 101'000; ++ns) histogram.add(ns);
  const std::vector<int64_t> sample = histogram.sample(1000);
  REQUIRE(sample.size() == 1000);
  CHECK(sample[500] == doctest::Approx(51'000).epsilon(0.01));
  CHECK(sample[990] == doctest::Approx(100'000).epsilon(0.01));
  CHECK(LatencyHistogram().sample(10).empty());
}

TEST_CASE("a closed loop answers all that it keeps in flight, and times each") {
  NullSender sender;
  ClosedLoop<NullSender> loop(sender, {.in_flight = 7, .timed_one_in = 1});
  for (int i = 0; i < 3; ++i) {
    const LoadResult result = loop.measure(milliseconds(5));
    CHECK(result.requests >= 7);
    CHECK(count_of(result.latency) == result.requests);
    CHECK(result.elapsed_ns >= 5'000'000);
    CHECK(result.ended.empty());
  }
}

TEST_CASE("a closed loop goes on after refusals and failures, and counts them by code") {
  FaultySender sender;
  LoadResult result;
  {
    ClosedLoop<FaultySender> loop(
        sender, {.in_flight = 4, .timed_one_in = 1, .goes_on_after_failure = true});
    result = loop.measure(milliseconds(50));
  }
  const int64_t sent = sender.sent;
  const int64_t refused = result.errors[static_cast<std::size_t>(ErrorCode::kOverloaded)];
  const int64_t failed = result.errors[static_cast<std::size_t>(ErrorCode::kEngineError)];
  CHECK(refused == sent / 3);
  CHECK(failed == sent / 5 - sent / 15);
  CHECK(result.requests + refused + failed == sent);
  CHECK(count_of(result.latency) == result.requests);
  CHECK(!result.first_error.empty());
}

TEST_CASE("a closed loop that shall not go on ends with the first failure") {
  FaultySender sender;
  ClosedLoop<FaultySender> loop(sender, {.in_flight = 1});
  CHECK_THROWS_AS(loop.measure(milliseconds(5)), Error);
}

TEST_CASE("an open loop charges a stall to every request that it held up") {
  // 100 requests, one each millisecond; the 20th blocks the generator for 40 ms.
  StallingSender sender{.stalls_at = 20, .stall = milliseconds(40)};
  std::vector<Nanoseconds> times;
  for (int i = 0; i < 100; ++i) times.emplace_back(milliseconds(i));
  OpenLoop<StallingSender> loop(sender);
  const LoadResult result = loop.measure(times, milliseconds(100));
  CHECK(result.requests == 100);
  // The i-th after it waited 40 - i ms: half of the stall in the mean, over 40 requests.
  const std::vector<int64_t> all = result.latency.sample(100);
  REQUIRE(all.size() == 100);
  CHECK(all[99] >= 39'000'000);
  CHECK(all[99 - 10] >= 29'000'000);
  CHECK(all[99 - 30] >= 9'000'000);
  // What a client sees that counts from when it sends: one slow request, and 99 fast ones.
  const std::vector<int64_t> naive = result.service.sample(100);
  CHECK(naive[99] >= 39'000'000);
  CHECK(naive[90] < all[90] / 2);
  CHECK(count_of(result.lag) == 100);
}

TEST_CASE("an open loop sends at the times that it is given, never before") {
  NullSender sender;
  OpenLoop<NullSender> loop(sender);
  const std::array<Nanoseconds, 3> times = {microseconds(0), milliseconds(3), milliseconds(9)};
  const std::vector<Arrival>& arrivals = loop.offer(times);
  REQUIRE(arrivals.size() == 3);
  CHECK(arrivals[2].intended - arrivals[0].intended == milliseconds(9));
  for (const Arrival& arrival : arrivals) {
    CHECK(arrival.lag.count() >= 0);
    CHECK(arrival.latency >= arrival.lag);
    CHECK(arrival.is_accepted);
  }
}

TEST_CASE("an open loop counts what is refused") {
  FaultySender sender;
  OpenLoop<FaultySender> loop(sender);
  const std::vector<Nanoseconds> times(30, Nanoseconds(0));
  const LoadResult result = loop.measure(times, milliseconds(1));
  CHECK(result.errors[static_cast<std::size_t>(ErrorCode::kOverloaded)] == 10);
  CHECK(result.errors[static_cast<std::size_t>(ErrorCode::kEngineError)] == 4);
  CHECK(result.requests == 16);
  CHECK(result.first_error == "full");
}

TEST_CASE("Poisson arrivals come at their rate, ascending") {
  std::mt19937_64 random(1);  // NOLINT(bugprone-random-generator-seed)
  const std::vector<Nanoseconds> times = poisson_arrivals(10'000, std::chrono::seconds(2), random);
  CHECK(times.size() == doctest::Approx(20'000).epsilon(0.03));
  CHECK(std::is_sorted(times.begin(), times.end()));
}

}  // namespace
}  // namespace pyruntime
