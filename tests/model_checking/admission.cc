// The admission: nobody comes in after the closer has seen that all have left,
// and the queue never holds more than its capacity.
// clang-format off: the atomics come first
#include "checked_atomics.h"
#include "schedule/admission.cc"
// clang-format on

namespace pyruntime::checking {

constexpr int kCallers = 3;

class Closing : public rl::test_suite<Closing, kCallers + 1> {
 public:
  void thread(unsigned index) {
    if (index == kCallers) {
      close();
      return;
    }
    // One that was refused for want of room asks once more.
    for (int i = 0; i < 2; ++i) {
      const Status status = admission_.enter(kRows, 0);
      if (status.ok()) {
        use(index);
        return;
      }
    }
  }

 private:
  void use(unsigned index) {
    // relaxed: a count for the assertion, which orders nothing
    RL_ASSERT(waiting_.fetch_add(1, std::memory_order_relaxed) < kCapacity);
    RL_ASSERT(scheduler_[index].get() == 0);  // still there; a race if the closer may be on it
    waiting_.fetch_sub(1, std::memory_order_relaxed);
    admission_.leave_queue(1, kRows, 0);
    admission_.leave(1);
  }

  void close() {
    admission_.stop_accepting();
    while (admission_.outstanding() != 0) rl::yield(1, RL_INFO);
    for (auto& part : scheduler_) part = 1;  // destroyed
  }

  static constexpr int kCapacity = 2;
  static constexpr int64_t kRows = 3;
  Admission admission_{BatchingOptions{.queue_capacity = kCapacity, .queue_rows = 100 * kRows}};
  std::atomic<int> waiting_;
  Checked<int> scheduler_[kCallers];
};

}  // namespace pyruntime::checking

int main() { return pyruntime::checking::explore<pyruntime::checking::Closing>(100'000); }
