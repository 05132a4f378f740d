#include <chrono>

#include <doctest/doctest.h>

#include "base/clock.h"

using namespace std::chrono_literals;
using pyruntime::ManualClock;
using pyruntime::SteadyClock;
using pyruntime::TimePoint;

TEST_CASE("a manual clock stands still until it is advanced") {
  ManualClock clock;
  const TimePoint begin = clock.now();
  CHECK(clock.now() == begin);
  clock.advance(5us);
  CHECK(clock.now() - begin == 5us);
  CHECK(begin > TimePoint{});
  CHECK(begin < pyruntime::kNever);
}

TEST_CASE("the steady clock is one and never runs backwards") {
  const SteadyClock& clock = SteadyClock::instance();
  CHECK(&clock == &SteadyClock::instance());
  TimePoint last = clock.now();
  for (int i = 0; i < 1000; ++i) {
    const TimePoint now = clock.now();
    REQUIRE(now >= last);
    last = now;
  }
}
