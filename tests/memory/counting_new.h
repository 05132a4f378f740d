// Counts what the whole program takes from operator new. Include it in one
// file of a test program. Not inlined: GCC would take malloc and free, seen side
// by side with new and delete, for a mismatch.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace pyruntime::test {
inline std::atomic<uint64_t> news{0};

// Whether `work` comes to a state in which it allocates nothing. What another
// thread gives back may be late by a time slice, and one more be made: then again.
template <typename Work>
bool comes_to_allocate_nothing(Work&& work) {
  constexpr int kAttempts = 50;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const uint64_t before = news.load();
    work();
    if (news.load() == before) return true;
  }
  return false;
}
}  // namespace pyruntime::test

[[gnu::noinline]] void* operator new(std::size_t size) {
  pyruntime::test::news.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
  pyruntime::test::news.fetch_add(1, std::memory_order_relaxed);
  const auto align = static_cast<std::size_t>(alignment);
  if (void* memory = std::aligned_alloc(align, (size + align - 1) / align * align)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}
