// A hash that is the same in every process, build and language.
#pragma once

#include <cstdint>
#include <string_view>

namespace pyruntime {

// XXH64 of `bytes`, as github.com/Cyan4973/xxHash specifies it: even and fast,
// but no protection against whoever chooses the bytes.
uint64_t hash64(std::string_view bytes, uint64_t seed = 0);

// Where a hash lies among `n` places of the same size. n: at least 1.
constexpr uint32_t place_of(uint64_t hash, uint32_t n) {
  // The high bits of hash * n, by halves: 64 bits times 32 do not fit.
  const uint64_t low = (hash & UINT32_MAX) * n;
  return static_cast<uint32_t>(((hash >> 32) * n + (low >> 32)) >> 32);
}

}  // namespace pyruntime
