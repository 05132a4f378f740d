// Linux futex: sleep while a word has a value, wake those who sleep on it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace pyruntime {

// Sleeps while `word` is `expected`, at most `timeout` (negative: no limit).
// May return early for no reason. Returns false when the time was up.
bool futex_wait(std::atomic<uint32_t>& word, uint32_t expected,
                std::chrono::nanoseconds timeout = std::chrono::nanoseconds(-1));

// Wakes at most `count` sleepers.
void futex_wake(std::atomic<uint32_t>& word, int count);

}  // namespace pyruntime
