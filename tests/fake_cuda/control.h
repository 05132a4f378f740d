// What tests tell and ask the fake CUDA driver beside the driver's own calls.
//
// The library exports one function of its own, fake_cuda_control(). All of its
// functions may be called from any thread; faults apply to work given after them.
#pragma once

#include <cstdint>

namespace fake_cuda {

inline constexpr int kDevices = 2;
inline constexpr unsigned char kPoison = 0xDB;

struct Faults {
  int64_t delay_us = 0;         // of every copy and callback
  int64_t delay_jitter_us = 0;  // uniformly random on top
  int64_t fail_after = -1;      // this many copies are taken, then the driver refuses one; -1: none
  // This many copies go on, then one does not end, nor what is behind it in its
  // stream, before faults are set with -1 here. -1: none.
  int64_t stall_after = -1;
  // This many copies go on, then one fails on the device, which ends the context.
  int64_t end_context_after = -1;
  int64_t memory_bytes = -1;  // there is; -1: 1 GiB
};

struct Control {
  // Of one device. What ended the context is forgotten.
  void (*set_faults)(int device, const Faults& faults);
  // The next call of the function of that name returns `result`, once.
  void (*fail_next)(const char* name, int result);
  // How often the program erred: work given to one stream on memory that another
  // may still be working on, without a wait between them; memory freed before the
  // host has waited for work on it, freed twice or never allocated; handles that
  // are none. And what came last.
  uint64_t (*misuse_count)();
  const char* (*last_misuse)();
  uint64_t (*used_bytes)(int device);
  uint64_t (*host_bytes)();  // page-locked
};

}  // namespace fake_cuda

extern "C" const fake_cuda::Control* fake_cuda_control();
