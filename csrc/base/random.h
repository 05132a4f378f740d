// Fast random numbers, not for secrets.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "base/hash.h"

namespace pyruntime {

// xoshiro256++ (Blackman and Vigna, 2019), seeded by splitmix64.
//
// Threads: one user at a time; thread_random() gives each thread its own.
class Random {
 public:
  explicit constexpr Random(uint64_t seed) {
    for (uint64_t& word : state_) {
      seed += 0x9E3779B97F4A7C15;
      uint64_t mixed = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9;
      mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
      word = mixed ^ (mixed >> 31);
    }
  }

  constexpr uint64_t next() {
    const uint64_t result = std::rotl(state_[0] + state_[3], 23) + state_[0];
    const uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  // From 0 on, below n. n: at least 1.
  constexpr uint32_t below(uint32_t n) { return place_of(next(), n); }
  // From 0 on, below 1.
  constexpr double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  std::array<uint64_t, 4> state_{};
};

// This thread's own; seeded by the system, unless set otherwise by assignment.
Random& thread_random();

}  // namespace pyruntime
