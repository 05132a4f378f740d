// Whether a core is to spare for a thread that would rather spin than sleep.
//
// Waking a sleeping thread costs some 20 us, meeting a spinning one 65 ns. But
// a spinner on a core that someone needs costs more than it gains, so threads
// that run or spin are counted, and one spins only while there are fewer than
// cores. (Threads of others are not seen: spins are short for that reason.)
#pragma once

#include <atomic>
#include <chrono>

#include "base/cache_line.h"

namespace pyruntime {

inline constexpr std::chrono::microseconds kSpinLimit{25};  // near the cost of a wake-up

// Threads: all calls from any.
class CoreBudget {
 public:
  // Of this process, from the cores that it may use when first asked.
  static CoreBudget& instance();

  explicit CoreBudget(int cores) : cores_(cores) {}

  int cores() const { return cores_; }

  void begin_run() { busy_.fetch_add(1, std::memory_order_relaxed); }
  void end_run() { busy_.fetch_sub(1, std::memory_order_relaxed); }

  // True if the caller may spin; it must end_run() then.
  bool try_begin_spin() {
    if (busy_.fetch_add(1, std::memory_order_relaxed) < cores_) return true;
    end_run();
    return false;
  }

 private:
  const int cores_;
  alignas(kCacheLine) std::atomic<int> busy_{0};
};

// Calls `found` again and again until it returns true, the time is up or no
// core is to spare. Returns whether it did.
template <typename Found>
bool spin_until(CoreBudget& budget, Found&& found) {
  if (found()) return true;
  if (!budget.try_begin_spin()) return false;
  const auto end = std::chrono::steady_clock::now() + kSpinLimit;
  bool is_found = false;
  do {
    for (int i = 0; i < 16 && !is_found; ++i) {
      cpu_relax();
      is_found = found();
    }
  } while (!is_found && std::chrono::steady_clock::now() < end);
  budget.end_run();
  return is_found;
}

}  // namespace pyruntime
