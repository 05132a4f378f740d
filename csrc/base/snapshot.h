// A value that readers never wait for and a writer swaps whole.
//
// Readers announce themselves in one of two counters and read; a writer swaps
// the pointer, turns new readers to the other counter and waits until the old
// counter is empty before the old value dies (after the left-right technique
// of Ramalhete and Correia).
//
// Threads: read() from any, wait-free; replace() from any, one at a time,
// never from within read().
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "base/cache_line.h"

namespace pyruntime {

template <typename T>
class Snapshot {
 public:
  explicit Snapshot(std::unique_ptr<const T> value) : value_(value.release()) {}
  ~Snapshot() { delete value_.load(std::memory_order_relaxed); }

  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  // Calls `use(const T&)` and returns what it returns. Keep it short: a writer
  // waits for it.
  template <typename Use>
  auto read(Use&& use) const {
    // seq_cst here and in replace(): announcing and then loading the pointer
    // against swapping and then looking for readers is Dekker's pattern.
    const Reading reading(readers_[side_.load(std::memory_order_seq_cst)].count);
    return std::forward<Use>(use)(*value_.load(std::memory_order_seq_cst));
  }

  // Swaps `value` in; returns the old one once no reader can see it.
  std::unique_ptr<const T> replace(std::unique_ptr<const T> value) {
    const std::lock_guard lock(write_mutex_);
    std::unique_ptr<const T> old(value_.exchange(value.release(), std::memory_order_seq_cst));
    // A reader may have loaded the side just before it was turned and announce
    // itself there late, so both sides are emptied once.
    const unsigned side = side_.load(std::memory_order_seq_cst);
    wait_for_readers(1 - side);
    side_.store(1 - side, std::memory_order_seq_cst);
    wait_for_readers(side);
    return old;
  }

 private:
  struct alignas(kCacheLine) Counter {
    mutable std::atomic<int64_t> count{0};
  };

  struct Reading {
    explicit Reading(std::atomic<int64_t>& c) : count(c) {
      count.fetch_add(1, std::memory_order_seq_cst);
    }
    ~Reading() { count.fetch_sub(1, std::memory_order_release); }  // pairs with wait_for_readers()
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;
    std::atomic<int64_t>& count;
  };

  void wait_for_readers(unsigned side) const {
    while (readers_[side].count.load(std::memory_order_seq_cst) != 0) std::this_thread::yield();
  }

  std::mutex write_mutex_;  // one writer at a time
  std::atomic<const T*> value_;
  std::atomic<unsigned> side_{0};
  std::array<Counter, 2> readers_;
};

}  // namespace pyruntime
