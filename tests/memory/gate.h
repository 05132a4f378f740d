// Holds a stream's work back until opened.
#pragma once

#include <atomic>
#include <thread>

#include "memory/stream.h"

namespace pyruntime::test {

class Gate {
 public:
  explicit Gate(Stream& stream) {
    stream.call(
        [](void* context) {
          auto& gate = *static_cast<Gate*>(context);
          gate.is_reached_.store(true, std::memory_order_release);
          while (!gate.is_open_.load(std::memory_order_acquire)) std::this_thread::yield();
          gate.is_passed_.store(true, std::memory_order_release);
        },
        this);
  }
  ~Gate() {
    open();
    while (!is_passed_.load(std::memory_order_acquire)) std::this_thread::yield();
  }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  void open() { is_open_.store(true, std::memory_order_release); }
  bool is_reached() const { return is_reached_.load(std::memory_order_acquire); }

 private:
  std::atomic<bool> is_reached_{false};
  std::atomic<bool> is_open_{false};
  std::atomic<bool> is_passed_{false};
};

}  // namespace pyruntime::test
