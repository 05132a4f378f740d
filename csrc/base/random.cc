#include "base/random.h"

#include <atomic>
#include <random>

namespace pyruntime {
namespace {

uint64_t fresh_seed() {
  // The system is asked once; threads are told apart by their number.
  static const uint64_t base = [] {
    std::random_device device;
    return static_cast<uint64_t>(device()) << 32 | device();
  }();
  static std::atomic<uint64_t> threads{0};
  return base + threads.fetch_add(1, std::memory_order_relaxed) * 0xD1B54A32D192ED03;
}

}  // namespace

Random& thread_random() {
  thread_local Random random(fresh_seed());
  return random;
}

}  // namespace pyruntime
