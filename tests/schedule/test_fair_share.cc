#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "schedule/echo_model.h"
#include "schedule/fair_share.h"

namespace pyruntime {
namespace {

using std::chrono::milliseconds;
using Member = FairShare::Member;
using Turn = FairShare::Turn;

const Clock& steady() { return SteadyClock::instance(); }

Nanoseconds one_ms() { return milliseconds(1); }

FairShare::Options device(int places) {
  FairShare::Options options;
  options.places = places;
  options.longest_wait = std::chrono::hours(1);
  return options;
}

}  // namespace

TEST_CASE("a model that is alone takes as many turns as it likes") {
  FairShare share(device(2));
  Member alone(share, 1, steady());
  std::vector<Turn> turns;
  for (int i = 0; i < 10; ++i) {
    turns.push_back(alone.try_begin(one_ms));
    CHECK(turns.back());
  }
  CHECK_FALSE(alone.has_company());
}

TEST_CASE("beside another model there are no more turns than places") {
  FairShare share(device(2));
  Member one(share, 1, steady());
  Member other(share, 1, steady());
  Turn first = one.try_begin(one_ms);
  Turn second = other.try_begin(one_ms);
  CHECK(first);
  CHECK(second);
  CHECK(one.has_company());
  CHECK_FALSE(one.try_begin(one_ms));
  CHECK_FALSE(other.try_begin(one_ms));
  first.end();
  CHECK(other.try_begin(one_ms));
}

TEST_CASE("for a while after the other one a model keeps to the places") {
  ManualClock clock;
  FairShare::Options options = device(2);
  options.active_for = std::chrono::seconds(1);
  FairShare share(options);
  Member flood(share, 1, clock);
  Member other(share, 1, clock);
  std::vector<Turn> turns;
  turns.push_back(flood.try_begin(one_ms));
  other.try_begin(one_ms).end();
  turns.push_back(flood.try_begin(one_ms));
  CHECK(turns.back());
  CHECK_FALSE(flood.try_begin(one_ms));
  clock.advance(milliseconds(999));
  CHECK_FALSE(flood.try_begin(one_ms));
  clock.advance(milliseconds(300));
  turns.push_back(flood.try_begin(one_ms));
  turns.push_back(flood.try_begin(one_ms));
  CHECK(turns.back());
  CHECK_FALSE(flood.has_company());
}

TEST_CASE("what preempts lets a model with nothing running in at once") {
  FairShare::Options options = device(2);
  options.preempts = true;
  FairShare share(options);
  Member flood(share, 1, steady());
  Member other(share, 1, steady());
  const Turn first = flood.try_begin(one_ms);
  const Turn second = flood.try_begin(one_ms);
  const Turn third = other.try_begin(one_ms);
  CHECK(third);
  CHECK_FALSE(other.try_begin(one_ms));
  CHECK_FALSE(flood.try_begin(one_ms));
}

TEST_CASE("a turn of several threads takes several places") {
  FairShare share(device(4));
  Member wide(share, 3, steady());
  Member narrow(share, 1, steady());
  const Turn first = wide.try_begin(one_ms);
  const Turn second = narrow.try_begin(one_ms);
  CHECK(second);
  CHECK_FALSE(narrow.try_begin(one_ms));
}

TEST_CASE("who waits goes first when a place is free") {
  FairShare share(device(1));
  Member flood(share, 1, steady());
  Member waiter(share, 1, steady());
  Turn running = flood.try_begin(one_ms);
  std::atomic<bool> has_had_it{false};
  std::thread thread([&] {
    const Turn turn = waiter.begin(one_ms);
    has_had_it = true;
  });
  while (!flood.has_company()) std::this_thread::yield();
  CHECK_FALSE(flood.try_begin(one_ms));
  CHECK_FALSE(has_had_it);
  running.end();
  thread.join();
  CHECK(has_had_it);
  CHECK(flood.try_begin(one_ms));
}

TEST_CASE("a run that does not come back loses its place, and has it again when it does") {
  FairShare::Options options = device(1);
  options.longest_wait = milliseconds(20);
  FairShare share(options);
  Member stuck(share, 1, steady());
  Member other(share, 1, steady());
  Turn lost = stuck.try_begin(one_ms);
  other.begin(one_ms).end();  // after 20 ms
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) {
    Turn turn = other.try_begin(one_ms);
    REQUIRE(turn);
    CHECK_FALSE(other.try_begin(one_ms));
  }
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(10));
  lost.end();
  const Turn again = stuck.try_begin(one_ms);
  CHECK_FALSE(other.try_begin(one_ms));
}

TEST_CASE("threads of several models never exceed the places, and all get on") {
  FairShare share(device(2));
  constexpr int kModels = 3;
  constexpr int kTurns = 300;
  std::vector<std::unique_ptr<Member>> members;
  for (int i = 0; i < kModels; ++i) {
    members.push_back(std::make_unique<Member>(share, 1, steady()));
  }
  const Turn keeps_company = members[0]->try_begin(one_ms);
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2 * (kModels - 1); ++i) {
    threads.emplace_back([&, i] {
      std::minstd_rand random(static_cast<unsigned>(i));  // NOLINT: the same each time
      Member& member = *members[static_cast<std::size_t>(1 + i / 2)];
      for (int turn = 0; turn < kTurns; ++turn) {
        Turn mine = random() % 2 == 0 ? member.try_begin(one_ms) : Turn();
        if (!mine) mine = member.begin(one_ms);
        const int now = running.fetch_add(1) + 1;
        int seen = most.load();
        while (now > seen && !most.compare_exchange_weak(seen, now)) {
        }
        if (random() % 4 == 0) std::this_thread::yield();
        running.fetch_sub(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(most.load() == 1);  // one place is taken all the time
}

TEST_CASE("a flood on one model of a device leaves another its turns") {
  EchoSettings flooded;
  flooded.instances = {{Device::parse("simulated:0"), 4}};
  flooded.batching.max_rows = 1;
  flooded.config = {{"echo.delay_us", "4000"}};
  EchoSettings called = flooded;
  called.instances[0].count = 1;
  const auto flood = load_echo(flooded);
  const auto quiet = load_echo(called, 2);
  Numbers numbers = rows_of_four(1, 7);
  std::vector<RequestRef> requests;
  for (int i = 0; i < 200; ++i) {
    requests.push_back(ask(*flood, numbers));
    REQUIRE(flood->submit(requests.back()).ok());
  }
  while (flood->stats().batches < 8) std::this_thread::sleep_for(milliseconds(1));
  std::vector<uint64_t> between;
  for (int i = 0; i < 9; ++i) {
    const RequestRef request = ask(*quiet, numbers);
    const uint64_t before = flood->stats().batches;
    REQUIRE(quiet->infer(request).ok());
    between.push_back(flood->stats().batches - before);
  }
  std::sort(between.begin(), between.end());
  // Its own run, beside one of the flood's, after what ran when it came: without turns there would
  // be eight batches of the flood on the device all the time.
  CHECK(between[between.size() / 2] <= 5);
  for (const RequestRef& request : requests) request->cancel();
  for (const RequestRef& request : requests) request->wait();
  require_conserved(flood->stats());
}

}  // namespace pyruntime
