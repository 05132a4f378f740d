#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "base/interleaving.h"
#include "base/snapshot.h"

using pyruntime::Snapshot;
using pyruntime::test::RandomYield;
using pyruntime::test::Watchdog;

namespace {

// Knows whether it is alive and whole.
struct Pair {
  explicit Pair(int n) : first(n), second(-n) {}
  ~Pair() { first = second = 12345; }
  int first;
  int second;
};

}  // namespace

TEST_CASE("a reader sees the value that was swapped in last") {
  Snapshot<std::string> snapshot(std::make_unique<std::string>("one"));
  const auto copy = [](const std::string& value) { return value; };
  CHECK(snapshot.read(copy) == "one");
  const auto old = snapshot.replace(std::make_unique<std::string>("two"));
  CHECK(*old == "one");
  CHECK(snapshot.read(copy) == "two");
}

TEST_CASE("a read within a read is allowed") {
  Snapshot<int> snapshot(std::make_unique<int>(3));
  const int sum = snapshot.read([&](const int& outer) {
    return outer + snapshot.read([](const int& inner) { return inner; });
  });
  CHECK(sum == 6);
}

TEST_CASE("a writer waits for a reader that still sees the old value") {
  const Watchdog watchdog("snapshot");
  Snapshot<int> snapshot(std::make_unique<int>(1));
  std::atomic<bool> is_reading{false};
  std::atomic<bool> may_finish{false};
  std::atomic<bool> is_replaced{false};
  std::thread reader([&] {
    snapshot.read([&](const int& value) {
      is_reading = true;
      while (!may_finish) std::this_thread::yield();
      CHECK(value == 1);
      CHECK_FALSE(is_replaced);
      return 0;
    });
  });
  while (!is_reading) std::this_thread::yield();
  std::thread writer([&] {
    snapshot.replace(std::make_unique<int>(2));
    is_replaced = true;
  });
  // New readers see the new value while the writer waits.
  while (snapshot.read([](const int& value) { return value; }) == 1) std::this_thread::yield();
  CHECK_FALSE(is_replaced);
  may_finish = true;
  reader.join();
  writer.join();
  CHECK(is_replaced);
}

TEST_CASE("readers never see a dead or a torn value, and never step back") {
  const Watchdog watchdog("snapshot under load");
  constexpr int kWriters = 2;
  constexpr int kSwaps = 500;
  Snapshot<Pair> snapshot(std::make_unique<Pair>(0));
  std::atomic<int> next{1};
  std::atomic<int> writers_left{kWriters};
  std::atomic<bool> is_sound{true};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      RandomYield maybe_yield(t);
      while (writers_left.load() != 0) {
        snapshot.read([&](const Pair& pair) {
          const int first = pair.first;
          maybe_yield();
          if (first != -pair.second || first == 12345) is_sound = false;
        });
        maybe_yield();
      }
    });
  }
  for (unsigned t = 0; t < kWriters; ++t) {
    threads.emplace_back([&, t] {
      RandomYield maybe_yield(70 + t);
      for (int i = 0; i < kSwaps; ++i) {
        snapshot.replace(std::make_unique<Pair>(next++));
        maybe_yield();
      }
      --writers_left;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(is_sound);
}
