// Where words that different threads write must be kept apart.
#pragma once

#include <cstddef>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace pyruntime {

// 64 on x86-64 and on most arm64; a constant, since the standard's changes
// with compiler flags and would change the layout of installed headers.
inline constexpr std::size_t kCacheLine = 64;

// Asks for the line at `address`, to be written soon.
inline void prefetch(const void* address) { __builtin_prefetch(address, /*rw=*/1); }

// Tells the core that this is a spin loop.
inline void cpu_relax() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace pyruntime
