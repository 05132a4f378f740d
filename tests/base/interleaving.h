// What tests of lock-free code share: random pauses, and an alarm for lost
// wake-ups.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <random>
#include <thread>

namespace pyruntime::test {

// Gives the processor up at random, so that threads meet in unlikely places.
class RandomYield {
 public:
  explicit RandomYield(unsigned seed) : random_(seed + 1) {}
  void operator()() {
    const auto draw = random_() % 64;
    if (draw < 4) std::this_thread::yield();
    if (draw == 63) std::this_thread::sleep_for(std::chrono::microseconds(1));
  }

 private:
  std::minstd_rand random_;
};

// Ends the process when it lives longer than `limit`: a thread that waits for
// a lost wake-up could not be joined.
class Watchdog {
 public:
  explicit Watchdog(const char* what, std::chrono::seconds limit = std::chrono::seconds(60))
      : thread_([this, what, limit] {
          std::unique_lock lock(mutex_);
          if (over_changed_.wait_for(lock, limit, [this] { return is_over_; })) return;
          std::fprintf(stderr, "watchdog: %s: nobody woke up\n", what);
          std::abort();
        }) {}
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      is_over_ = true;
    }
    over_changed_.notify_one();
    thread_.join();
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable over_changed_;
  bool is_over_ = false;
  std::thread thread_;
};

}  // namespace pyruntime::test
