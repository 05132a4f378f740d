#include "base/background.h"

#include <exception>
#include <utility>

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

std::thread ThreadMaker::make(std::function<void()> body) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !body_ && !made_.joinable() && !failure_; });
  body_ = std::move(body);
  changed_.notify_all();
  changed_.wait(lock, [&] { return made_.joinable() || failure_; });
  const std::exception_ptr failure = std::exchange(failure_, nullptr);
  std::thread made = std::move(made_);
  changed_.notify_all();
  if (failure) std::rethrow_exception(failure);
  return made;
}

void ThreadMaker::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return body_ || is_closed_; });
    if (!body_) return;
    try {
      made_ = std::thread(std::exchange(body_, nullptr));
    } catch (...) {
      failure_ = std::current_exception();
    }
    changed_.notify_all();
  }
}

void ThreadMaker::close() {
  const std::lock_guard lock(mutex_);
  is_closed_ = true;
  changed_.notify_all();
}

void run_in_background(const std::function<void(ThreadMaker&)>& work) {
  std::exception_ptr failure;
  ThreadMaker maker;
  std::thread thread([&] {
    lower_priority();
    try {
      work(maker);
    } catch (...) {
      failure = std::current_exception();
    }
    maker.close();
  });
  maker.serve();
  thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace pyruntime
