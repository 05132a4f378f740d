// A device that behaves like a GPU at its most awkward, for tests on machines
// without one: streams really run later and on other threads, device memory
// faults when the host touches it, and destinations hold poison until done.
//
// Device addresses come from a reserved range without access; the bytes lie
// elsewhere, reachable only through the streams. New device memory reads
// kPoison, as does a copy's destination until the copy is done: a host
// destination from the moment the copy is given (unless other work on it is
// still under way) until just before the next event fires or function is
// called, so that a missing wait is seen.
//
// Threads: all calls from any. Settings apply to work given after them.
#pragma once

#include <chrono>
#include <cstdint>

#include "memory/device.h"

namespace pyruntime {

struct SimulatedFaults {
  std::chrono::microseconds delay{0};         // of every copy and call
  std::chrono::microseconds delay_jitter{0};  // uniformly random on top
  int64_t fail_after = -1;                    // this many copies succeed, then one fails; -1: none
  // This many copies go on, then one does not end, nor what is behind it in its
  // stream, before faults are set with -1 here. -1: none.
  int64_t stall_after = -1;
  int64_t memory_bytes = -1;  // device memory there is; -1: 1 GiB
};

inline constexpr int16_t kSimulatedDevices = 2;
inline constexpr unsigned char kPoison = 0xDB;

// Of simulated device `index`. Resetting to SimulatedFaults{} heals it.
void set_simulated_faults(int16_t index, const SimulatedFaults& faults);

// How often host code erred: memory freed while work on it was under way, freed
// twice or with another size; work on memory that was never allocated or lies
// on the wrong side; an event of another backend.
uint64_t simulated_misuse_count(int16_t index);

// What is allocated on the device at this moment.
uint64_t simulated_used_bytes(int16_t index);

}  // namespace pyruntime
