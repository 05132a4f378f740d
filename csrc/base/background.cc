#include "base/background.h"

#include <exception>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace pyruntime {
namespace {

// An unprivileged thread can lower its priority and never raise it again, so
// that this is only for threads that end.
void lower_priority() {
#if defined(__linux__)
  constexpr int kNice = 19;  // with both cores busy it still gets a share of some 1.5 %
  const sched_param none{};
  // Where either is refused the work is merely less gentle.
  [[maybe_unused]] const int batch = sched_setscheduler(0, SCHED_BATCH, &none);
  [[maybe_unused]] const int nice =
      setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kNice);
#endif
}

}  // namespace

void run_in_background(const std::function<void()>& work) {
  std::exception_ptr failure;
  std::thread thread([&] {
    lower_priority();
    try {
      work();
    } catch (...) {
      failure = std::current_exception();
    }
  });
  thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace pyruntime
