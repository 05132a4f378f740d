#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "base/bounded_queue.h"
#include "base/interleaving.h"

using pyruntime::BoundedQueue;
using pyruntime::test::RandomYield;
using pyruntime::test::Watchdog;

namespace {

// Producers push numbered values, consumers pop them: each arrives once, and
// those of one producer arrive in order at each consumer.
void hammer(std::size_t capacity, unsigned producers, unsigned consumers, uint64_t each) {
  const Watchdog watchdog("queue");
  BoundedQueue<uint64_t> queue(capacity);
  std::atomic<uint64_t> popped{0};
  std::atomic<bool> is_in_order{true};
  std::vector<std::vector<uint64_t>> seen(consumers);
  std::vector<std::thread> threads;
  for (unsigned p = 0; p < producers; ++p) {
    threads.emplace_back([&, p] {
      RandomYield maybe_yield(p);
      for (uint64_t i = 0; i < each; ++i) {
        uint64_t value = p * each + i;
        while (!queue.try_push(value)) std::this_thread::yield();
        maybe_yield();
      }
    });
  }
  for (unsigned c = 0; c < consumers; ++c) {
    threads.emplace_back([&, c] {
      RandomYield maybe_yield(100 + c);
      std::vector<int64_t> last(producers, -1);
      while (popped.load(std::memory_order_relaxed) < producers * each) {
        uint64_t value = 0;
        if (!queue.try_pop(value)) {
          std::this_thread::yield();
          continue;
        }
        popped.fetch_add(1, std::memory_order_relaxed);
        seen[c].push_back(value);
        const auto number = static_cast<int64_t>(value % each);
        if (number <= last[value / each]) is_in_order = false;
        last[value / each] = number;
        maybe_yield();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  CHECK(is_in_order);
  std::vector<int> times(producers * each, 0);
  for (const auto& values : seen) {
    for (const uint64_t value : values) ++times[value];
  }
  bool is_each_once = true;
  for (const int n : times) is_each_once = is_each_once && n == 1;
  CHECK(is_each_once);
  CHECK(queue.is_empty());
}

}  // namespace

TEST_CASE("a capacity is rounded up to a power of two") {
  CHECK(BoundedQueue<int>(0).capacity() == 1);
  CHECK(BoundedQueue<int>(1).capacity() == 1);
  CHECK(BoundedQueue<int>(5).capacity() == 8);
}

TEST_CASE("values come out in the order in which they went in") {
  for (const std::size_t capacity : {1, 2, 8}) {
    BoundedQueue<int> queue(capacity);
    int out = -1;
    CHECK(queue.is_empty());
    CHECK_FALSE(queue.try_pop(out));
    for (int round = 0; round < 20; ++round) {
      for (int i = 0; i < static_cast<int>(capacity); ++i) {
        int in = 100 * round + i;
        REQUIRE(queue.try_push(in));
      }
      CHECK_FALSE(queue.is_empty());
      for (int i = 0; i < static_cast<int>(capacity); ++i) {
        REQUIRE(queue.try_pop(out));
        CHECK(out == 100 * round + i);
      }
      CHECK(queue.is_empty());
    }
  }
}

TEST_CASE("a full queue leaves the value with the caller") {
  BoundedQueue<std::unique_ptr<int>> queue(1);
  auto first = std::make_unique<int>(1);
  auto second = std::make_unique<int>(2);
  REQUIRE(queue.try_push(first));
  CHECK(first == nullptr);
  REQUIRE_FALSE(queue.try_push(second));
  REQUIRE(second != nullptr);
  CHECK(*second == 2);
}

TEST_CASE("a queue frees what it still holds") {
  const auto value = std::make_shared<int>(1);
  {
    BoundedQueue<std::shared_ptr<int>> queue(4);
    auto copy = value;
    REQUIRE(queue.try_push(copy));
    CHECK(value.use_count() == 2);
  }
  CHECK(value.use_count() == 1);
}

TEST_CASE("a queue of one cell loses and repeats nothing between threads") {
  hammer(1, 1, 1, 5000);
  hammer(1, 3, 3, 2000);
}

TEST_CASE("a queue of a few cells loses and repeats nothing between threads") {
  hammer(2, 2, 2, 5000);
  hammer(64, 4, 1, 5000);
  hammer(64, 1, 4, 5000);
}
