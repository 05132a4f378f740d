// Finished requests on their way to a Python thread.
//
// Worker threads push without the GIL; a Python thread or an event loop waits
// for the eventfd and takes everything that has arrived at once. The eventfd
// is written only by the push that finds the queue empty: one wake for many
// completions.
//
// Threads: all calls from any.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"

namespace pyruntime {

class CompletionQueue;

// One finished request, linked through itself: pushing allocates nothing.
struct Completion {
  Completion* next = nullptr;
  std::shared_ptr<CompletionQueue> queue;             // where it is going
  void (*deliver)(Completion* completion) = nullptr;  // by who took it, with the GIL
  void* owner = nullptr;                              // for `deliver`
};

class CompletionQueue {
 public:
  CompletionQueue() : event_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (event_fd_ < 0) {
      throw Error(ErrorCode::kUnavailable, "eventfd: " + std::generic_category().message(errno));
    }
  }
  ~CompletionQueue() { ::close(event_fd_); }

  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  // Readable while there may be something to take.
  int event_fd() const { return event_fd_; }

  static void push(Completion& completion) noexcept {
    // Once published, the completion and its reference to the queue may be
    // gone at any moment; the eventfd must outlive the write.
    const std::shared_ptr<CompletionQueue> queue = completion.queue;
    Completion* head = queue->head_.load(std::memory_order_relaxed);
    do {
      completion.next = head;
      // release: pairs with the acquire in take_all()
    } while (!queue->head_.compare_exchange_weak(head, &completion, std::memory_order_release,
                                                 std::memory_order_relaxed));
    if (head == nullptr) queue->wake();
  }

  // Makes the eventfd readable.
  void wake() noexcept {
    const uint64_t one = 1;
    // Can only fail with EAGAIN, when it is readable anyway.
    [[maybe_unused]] const ssize_t written = ::write(event_fd_, &one, sizeof one);
  }

  // Everything that was pushed, oldest first, linked by `next`.
  Completion* take_all() noexcept {
    // The wake is dropped first: a push after it finds the queue empty and
    // wakes again, or is taken here.
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(event_fd_, &count, sizeof count);
    Completion* newest = head_.exchange(nullptr, std::memory_order_acquire);
    Completion* oldest = nullptr;
    while (newest != nullptr) {
      Completion* const next = newest->next;
      newest->next = oldest;
      oldest = newest;
      newest = next;
    }
    return oldest;
  }

 private:
  const int event_fd_;
  std::atomic<Completion*> head_{nullptr};
};

}  // namespace pyruntime
