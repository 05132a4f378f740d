// Compiles the core's own headers against the atomics of Relacy, Dmitry
// Vyukov's model checker: each operation on one is a point where another thread
// may go on, and a load may return an older value wherever its memory order and
// those of the stores allow it. Include this before any header of the core.
//
// What Relacy cannot do: delay a store past a later load of the same thread
// (it returns old values instead, which shows most of the same errors), and
// tell a race on plain fields, unless they are Checked.
#pragma once

#include "relacy_prefix.h"

// As relacy.hpp has it: the place in the source travels with each operation.
#define memory_order_relaxed mo_relaxed, RL_INFO
#define memory_order_acquire mo_acquire, RL_INFO
#define memory_order_release mo_release, RL_INFO
#define memory_order_acq_rel mo_acq_rel, RL_INFO
#define memory_order_seq_cst mo_seq_cst, RL_INFO

namespace std {

using rl::mo_acq_rel;
using rl::mo_acquire;
using rl::mo_relaxed;
using rl::mo_release;
using rl::mo_seq_cst;

// Zero unless told otherwise, as since C++20.
template <typename T>
class checked_atomic : public rl::atomic<T> {
 public:
  checked_atomic() : rl::atomic<T>(T{}) {}
  checked_atomic(T value) : rl::atomic<T>(value) {}
};

}  // namespace std

#define atomic checked_atomic

#include "base/futex.h"

namespace pyruntime {

// As in the kernel, the comparison sees the word's latest value, and no wake-up
// comes between it and the sleep.
inline bool futex_wait(std::atomic<uint32_t>& word, uint32_t expected,
                       std::chrono::nanoseconds timeout) {
  if (word.fetch_add(0, std::memory_order_relaxed) != expected) return true;
  return word.wait(rl::ctx(), /*is_timed=*/timeout.count() >= 0, /*may_be_spurious=*/true,
                   RL_INFO) != rl::unpark_reason_timeout;
}

inline void futex_wake(std::atomic<uint32_t>& word, int count) {
  rl::ctx().sched();  // another thread may come between the store and this
  word.wake(rl::ctx(), count, RL_INFO);
}

}  // namespace pyruntime

namespace pyruntime::checking {

// A plain value of which each access must be ordered against the others'.
template <typename T>
class Checked {
 public:
  Checked() : var_(T{}) {}
  Checked(T value) : var_(value) {}
  Checked(const Checked& other) : var_(other.get()) {}
  Checked& operator=(const Checked& other) { return *this = other.get(); }
  Checked& operator=(T value) {
    var_(RL_INFO) = value;
    return *this;
  }
  T get() const { return var_(RL_INFO); }

 private:
  rl::var<T> var_;
};

// Runs `executions` of `Suite`, drawn at random from a fixed seed, until one
// fails. Says what failed and returns the exit status: 1 if something did.
template <typename Suite>
int explore(uint64_t executions) {
  using Scheduler = rl::random_scheduler<Suite::params::thread_count>;
  std::ostringstream history;
  rl::ostringstream state;
  rl::test_params params;
  params.output_stream = &history;
  params.progress_stream = &history;
  params.iteration_count = executions;
  params.collect_history = std::getenv("VERBOSE") != nullptr;
  const rl::test_result_e result = rl::run_test<Suite, Scheduler>(params, state, false);
  if (result == rl::test_result_success) {
    std::cout << executions << " executions\n";
    return 0;
  }
  std::cout << history.str() << rl::test_result_str(result) << " in execution "
            << params.stop_iteration << '\n';
  return 1;
}

}  // namespace pyruntime::checking
