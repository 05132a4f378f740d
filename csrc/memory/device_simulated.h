// A device that behaves like a GPU at its most awkward, for tests on machines
// without one: streams really run later and on other threads, device memory
// faults when the host touches it, and destinations hold poison until done.
//
// Device addresses come from a reserved range without access; the bytes lie
// elsewhere, reachable only through the streams. Before a copy into host
// memory is done, that memory reads kPoison; it gets its bytes just before the
// next record()'s event fires, so that a missing wait is seen.
//
// Threads: all calls from any. Settings apply to work given after them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "memory/device.h"

namespace pyruntime {

struct SimulatedFaults {
  std::chrono::microseconds delay{0};         // added to every piece of work
  std::chrono::microseconds delay_jitter{0};  // uniformly random on top
  int64_t fail_after = -1;    // this many further pieces of work succeed, then one fails; -1: none
  int64_t memory_bytes = -1;  // device memory there is; -1: 1 GiB
};

inline constexpr unsigned char kPoison = 0xDB;

// Of simulated device `index`. Resetting to SimulatedFaults{} heals it.
void set_simulated_faults(int16_t index, const SimulatedFaults& faults);

// How often host code waited wrongly: an allocation freed while work on it was
// still under way, work on memory that was never allocated.
uint64_t simulated_misuse_count(int16_t index);

}  // namespace pyruntime
