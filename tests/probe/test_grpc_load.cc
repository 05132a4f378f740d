// The gRPC load generator, on a server that answers as it is told.
#include <array>
#include <chrono>
#include <memory>
#include <numeric>
#include <vector>

#include <doctest/doctest.h>

#include "probe/grpc_load.h"
#include "probe/grpc_responder.h"

namespace pyruntime {
namespace {

using std::chrono::milliseconds;

const std::vector<uint8_t> kAnswer(40, 1);

GrpcLoad load_on(const GrpcResponder& responder, std::size_t request_size = 100,
                 std::size_t threads = 1) {
  return {{.address = responder.address(),
           .path = "/a/B",
           .threads = threads,
           .connections = 2,
           .patience = milliseconds(2000)},
          std::vector<uint8_t>(request_size, 2)};
}

int64_t count_of(const LatencyHistogram& histogram) {
  const std::vector<int64_t> counts = histogram.counts();
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

TEST_CASE("calls are kept in flight, and each is answered and timed") {
  const GrpcResponder responder({}, kAnswer);
  for (const std::size_t in_flight : {1, 3, 300}) {
    const LoadResult result = load_on(responder, 100, 2).closed(in_flight, milliseconds(20));
    CHECK(result.requests >= static_cast<int64_t>(in_flight));
    CHECK(count_of(result.latency) == result.requests);
    CHECK(result.ended.empty());
  }
}

TEST_CASE("a server that limits the calls of a connection is not sent more at once") {
  const GrpcResponder responder({.delays = {milliseconds(2)}, .max_streams = 3}, kAnswer);
  GrpcLoad load({.address = responder.address(), .path = "/a/B", .connections = 2}, kAnswer);
  const LoadResult closed = load.closed(40, milliseconds(100));
  CHECK(closed.requests >= 40);
  CHECK(closed.ended.empty());
  // Who waits for the server to take it waits in an open loop's latency.
  const std::vector<Nanoseconds> times(300, Nanoseconds(0));
  const LoadResult open = load.open(times, milliseconds(1));
  CHECK(open.requests == 300);
  CHECK(open.latency.max_ns() >= 30'000'000);
}

TEST_CASE("requests larger than the server's window wait for it and arrive whole") {
  const GrpcResponder responder({}, std::vector<uint8_t>(300'000, 3));
  const LoadResult result = load_on(responder, 1'000'000).closed(4, milliseconds(20));
  CHECK(result.requests >= 4);
  CHECK(result.ended.empty());
}

TEST_CASE("delays of the server are in the latencies") {
  const GrpcResponder responder({.delays = {milliseconds(5), milliseconds(20)}}, kAnswer);
  std::vector<Nanoseconds> times;
  for (int i = 0; i < 20; ++i) times.emplace_back(milliseconds(i));
  for (const LoadResult& result : {load_on(responder).open(times, milliseconds(20)),
                                   load_on(responder).closed(2, milliseconds(60))}) {
    CHECK(result.latency.min_ns() >= 5'000'000);
    CHECK(result.latency.max_ns() >= 20'000'000);
    CHECK(result.ended.empty());
  }
}

TEST_CASE("a stalled server holds up what arrives, and all of it is charged") {
  const GrpcResponder responder(
      {.delays = {}, .stall = milliseconds(50), .stall_period = milliseconds(100)}, kAnswer);
  std::vector<Nanoseconds> times;
  for (int i = 0; i < 200; ++i) times.emplace_back(milliseconds(i));
  const LoadResult result = load_on(responder).open(times, milliseconds(200));
  CHECK(result.requests == 200);
  // A quarter of all arrive in the first half of a stall and wait for 25 ms or more.
  const std::vector<int64_t> all = result.latency.sample(200);
  CHECK(all[200 - 30] >= 25'000'000);
}

TEST_CASE("what the server answers with an error is counted by its code") {
  const GrpcResponder responder({.delays = {}, .status = 8}, kAnswer);
  const LoadResult result = load_on(responder).closed(2, milliseconds(10));
  CHECK(result.requests == 0);
  CHECK(result.errors[static_cast<std::size_t>(ErrorCode::kOverloaded)] >= 2);
}

TEST_CASE("a server that dies ends the load, and what it had answered is kept") {
  const GrpcResponder responder({.delays = {}, .dies_after = 50}, kAnswer);
  const LoadResult result = load_on(responder).closed(4, std::chrono::seconds(20));
  CHECK(result.requests > 0);
  CHECK(result.requests <= 60);
  CHECK(result.ended.find("the connection was lost") == 0);
  CHECK_THROWS_AS(load_on(responder).closed(1, milliseconds(1)), Error);
}

TEST_CASE("a server that never answers is given up") {
  const GrpcResponder responder({.delays = {std::chrono::hours(1)}}, kAnswer);
  GrpcLoad load({.address = responder.address(), .path = "/a/B", .patience = milliseconds(50)},
                kAnswer);
  const std::array<Nanoseconds, 2> times = {Nanoseconds(0), Nanoseconds(1)};
  for (const LoadResult& result :
       {load.closed(3, milliseconds(10)), load.open(times, milliseconds(1))}) {
    CHECK(result.requests == 0);
    CHECK(result.ended.find("no answer for") == 0);
    CHECK(result.errors[static_cast<std::size_t>(ErrorCode::kDeadlineExceeded)] >= 2);
  }
}

TEST_CASE("where there is no server, the address and the reason are said") {
  GrpcLoad load({.address = "127.0.0.1:1", .path = "/a/B"}, kAnswer);
  CHECK_THROWS_WITH_AS(load.closed(1, milliseconds(1)), "127.0.0.1:1: Connection refused", Error);
  GrpcLoad nonsense({.address = "here", .path = "/a/B"}, kAnswer);
  CHECK_THROWS_WITH_AS(nonsense.closed(1, milliseconds(1)),
                       "address: expected HOST:PORT or unix:PATH, got 'here'", Error);
}

}  // namespace
}  // namespace pyruntime
