#include <atomic>
#include <chrono>
#include <thread>

#include <doctest/doctest.h>

#include "base/futex.h"
#include "base/interleaving.h"

using namespace std::chrono_literals;
using pyruntime::futex_wait;
using pyruntime::futex_wake;

TEST_CASE("a wait on a word that has changed returns at once") {
  std::atomic<uint32_t> word{1};
  CHECK(futex_wait(word, 0));
}

TEST_CASE("a wait on a word that stays ends at its timeout") {
  std::atomic<uint32_t> word{0};
  const auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(futex_wait(word, 0, 10ms));
  CHECK(std::chrono::steady_clock::now() - begin >= 9ms);
}

TEST_CASE("a wake-up ends a wait") {
  const pyruntime::test::Watchdog watchdog("futex");
  std::atomic<uint32_t> word{0};
  std::thread sleeper([&] {
    while (word.load() == 0) futex_wait(word, 0);
  });
  std::this_thread::sleep_for(2ms);
  word.store(1);
  futex_wake(word, 1);
  sleeper.join();
}
