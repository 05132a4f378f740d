#include "base/futex.h"

#include <cerrno>
#include <climits>
#include <ctime>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace pyruntime {

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));

bool futex_wait(std::atomic<uint32_t>& word, uint32_t expected, std::chrono::nanoseconds timeout) {
  timespec limit{};
  timespec* limit_or_null = nullptr;
  if (timeout.count() >= 0) {
    limit.tv_sec = static_cast<time_t>(timeout.count() / 1'000'000'000);
    limit.tv_nsec = static_cast<long>(timeout.count() % 1'000'000'000);
    limit_or_null = &limit;
  }
  const long result = syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word),
                              FUTEX_WAIT | FUTEX_PRIVATE_FLAG, expected, limit_or_null, nullptr, 0);
  // EAGAIN (the word had changed) and EINTR are wake-ups like any other.
  return !(result == -1 && errno == ETIMEDOUT);
}

void futex_wake(std::atomic<uint32_t>& word, int count) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count,
          nullptr, nullptr, 0);
}

}  // namespace pyruntime
