#include <atomic>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "base/bounded_queue.h"
#include "base/cache_line.h"
#include "base/event_count.h"
#include "base/interleaving.h"

using namespace std::chrono_literals;
using pyruntime::BoundedQueue;
using pyruntime::EventCount;
using pyruntime::test::RandomYield;
using pyruntime::test::Watchdog;

TEST_CASE("a notification without waiters is not remembered") {
  EventCount events;
  events.notify_one();
  events.notify_all();
  const EventCount::Ticket ticket = events.prepare_wait();
  CHECK_FALSE(events.wait(ticket, 1ms));
}

TEST_CASE("a wait ends at its timeout, and at once for none") {
  EventCount events;
  CHECK_FALSE(events.wait(events.prepare_wait(), 0ns));
  const auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(events.wait(events.prepare_wait(), 20ms));
  CHECK(std::chrono::steady_clock::now() - begin >= 19ms);
}

TEST_CASE("a notification after prepare_wait ends the wait before it sleeps") {
  const Watchdog watchdog("eventcount");
  EventCount events;
  const EventCount::Ticket ticket = events.prepare_wait();
  events.notify_one();
  CHECK(events.wait(ticket));
  CHECK(events.wait(events.prepare_wait(), 0ns) == false);
}

TEST_CASE("a cancelled wait leaves no waiter behind") {
  EventCount events;
  const EventCount::Ticket before = events.prepare_wait();
  events.cancel_wait();
  events.notify_all();  // nobody is there, so that nothing changes
  CHECK(events.prepare_wait() == before);
  events.cancel_wait();
}

TEST_CASE("notify_all wakes every sleeper") {
  const Watchdog watchdog("notify_all");
  EventCount events;
  std::atomic<bool> is_open{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      while (!is_open.load(std::memory_order_acquire)) {
        const EventCount::Ticket ticket = events.prepare_wait();
        if (is_open.load(std::memory_order_acquire)) {
          events.cancel_wait();
        } else {
          events.wait(ticket);
        }
      }
    });
  }
  std::this_thread::sleep_for(5ms);
  is_open.store(true, std::memory_order_release);
  events.notify_all();
  for (std::thread& thread : threads) thread.join();
}

TEST_CASE("no wake-up is lost in ping-pong through one word") {
  const Watchdog watchdog("ping-pong");
  constexpr uint32_t kRounds = 5000;
  EventCount events[2];
  std::atomic<uint32_t> turn{0};
  const auto play = [&](uint32_t parity) {
    RandomYield maybe_yield(parity);
    for (uint32_t round = parity; round < kRounds; round += 2) {
      // relaxed: the eventcount alone must order the two
      while (turn.load(std::memory_order_relaxed) != round) {
        const EventCount::Ticket ticket = events[parity].prepare_wait();
        maybe_yield();
        if (turn.load(std::memory_order_relaxed) == round) {
          events[parity].cancel_wait();
        } else {
          events[parity].wait(ticket);
        }
      }
      turn.store(round + 1, std::memory_order_relaxed);
      events[1 - parity].notify_one();
      maybe_yield();
    }
  };
  std::thread other([&] { play(1); });
  play(0);
  other.join();
  CHECK(turn.load() == kRounds);
}

TEST_CASE("publishing and preparing at the same instant loses no wake-up") {
  const Watchdog watchdog("the same instant");
  constexpr uint32_t kRounds = 20000;
  EventCount events;
  alignas(pyruntime::kCacheLine) std::atomic<uint32_t> published{0};
  alignas(pyruntime::kCacheLine) std::atomic<uint32_t> arrived{0};
  const auto meet = [&](uint32_t round) {
    arrived.fetch_add(1);
    for (int spins = 0; arrived.load() < 2 * round; ++spins) {
      if (spins > 1000) std::this_thread::yield();
    }
  };
  std::thread producer([&] {
    std::minstd_rand random(1);
    for (uint32_t round = 1; round <= kRounds; ++round) {
      meet(round);
      for (auto n = random() % 8; n != 0; --n) pyruntime::cpu_relax();
      published.store(round, std::memory_order_relaxed);
      events.notify_one();
    }
  });
  for (uint32_t round = 1; round <= kRounds; ++round) {
    meet(round);
    while (published.load(std::memory_order_relaxed) != round) {
      const EventCount::Ticket ticket = events.prepare_wait();
      if (published.load(std::memory_order_relaxed) == round) {
        events.cancel_wait();
      } else {
        events.wait(ticket);
      }
    }
  }
  producer.join();
}

TEST_CASE("no wake-up is lost between many producers and consumers of a one-cell queue") {
  const Watchdog watchdog("queue with eventcounts");
  constexpr int kThreads = 3;
  constexpr int kEach = 1500;
  BoundedQueue<int> queue(1);
  EventCount not_empty;
  EventCount not_full;
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> threads;
  const auto until = [](EventCount& events, auto attempt) {
    for (;;) {
      if (attempt()) return;
      const EventCount::Ticket ticket = events.prepare_wait();
      if (attempt()) {
        events.cancel_wait();
        return;
      }
      events.wait(ticket);
    }
  };
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      RandomYield maybe_yield(static_cast<unsigned>(t));
      for (int i = 1; i <= kEach; ++i) {
        int value = i;
        until(not_full, [&] { return queue.try_push(value); });
        maybe_yield();
        not_empty.notify_one();
      }
    });
    threads.emplace_back([&, t] {
      RandomYield maybe_yield(static_cast<unsigned>(50 + t));
      for (int i = 1; i <= kEach; ++i) {
        int value = 0;
        until(not_empty, [&] { return queue.try_pop(value); });
        maybe_yield();
        not_full.notify_one();
        sum += value;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(sum == int64_t{kThreads} * kEach * (kEach + 1) / 2);
}
