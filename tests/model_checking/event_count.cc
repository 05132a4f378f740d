// The eventcount: two producers, two waiters, and nobody sleeps for ever.
// clang-format off: the atomics come first
#include "checked_atomics.h"
#include "base/event_count.h"
// clang-format on

namespace pyruntime::checking {

// Each producer publishes one thing, each waiter takes one.
class Handing : public rl::test_suite<Handing, 4> {
 public:
  void thread(unsigned index) {
    if (index < 2) {
      // relaxed: the eventcount alone must order producer and waiter
      published_[index].store(1, std::memory_order_relaxed);
      events_.notify_one();
      return;
    }
    // One waiter looks again after a time, as who has a deadline does.
    const std::chrono::nanoseconds timeout(index == 2 ? -1 : 1);
    while (!take()) {
      const EventCount::Ticket ticket = events_.prepare_wait();
      if (take()) {
        events_.cancel_wait();
        return;
      }
      events_.wait(ticket, timeout);
    }
  }

 private:
  bool take() {
    for (unsigned i = 0; i < 2; ++i) {
      uint32_t expected = 1;
      if (published_[i].load(std::memory_order_relaxed) == 1 &&
          published_[i].compare_exchange_strong(expected, 2, std::memory_order_relaxed,
                                                std::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }

  EventCount events_;
  std::atomic<uint32_t> published_[2];
};

}  // namespace pyruntime::checking

int main() { return pyruntime::checking::explore<pyruntime::checking::Handing>(60'000); }
