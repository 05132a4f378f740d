// The request: of a batch, a caller who cancels and a caller whose deadline
// passes, one answers it, once; who waits wakes up and sees the answer; and it
// goes back to its pool when the last of them has let go.
// clang-format off: the atomics come first
#include "checked_atomics.h"
#include "schedule/request.cc"
#include "schedule/admission.cc"
// clang-format on

namespace pyruntime {

// As the batcher and a batch do it, without queue and engine.
struct RequestTestPeer {
  static void queue(Request& request, SchedulerStats& stats, Admission& admission) {
    request.stats_ = &stats;
    request.admission_ = &admission;
    request.references_.fetch_add(2, std::memory_order_relaxed);
    request.state_.store(Request::kQueued, std::memory_order_release);
  }
  static bool claim(Request& request) { return request.claim(2); }
  static void answer(Request& request) { request.answer(2); }
  static void drop_entry(Request& request) { request.drop(1); }
  static bool expire(Request& request) { return request.abandon(ErrorCode::kDeadlineExceeded, ""); }
};

namespace checking {

using Peer = RequestTestPeer;

class Answering : public rl::test_suite<Answering, 4> {
 public:
  void before() {
    RL_ASSERT(admission_.enter(1, 0).ok());
    RequestRef request = pool_.take();
    request->on_complete = [](void* context, Request&) noexcept {
      static_cast<Answering*>(context)->count_answer();
    };
    request->context = this;
    Peer::queue(*request, stats_, admission_);
    for (RequestRef& held : held_) held = request;
    request_ = request.get();
  }

  void thread(unsigned index) {
    switch (index) {
      case 0:
        run_batch();
        break;
      case 1:
        held_[0]->cancel();
        held_[0].reset();
        break;
      case 2:
        held_[1]->wait();
        see_answer(held_[1]);
        break;
      default:  // as Scheduler::await() does
        if (!held_[2]->wait(Nanoseconds(1)) && !Peer::expire(*held_[2])) held_[2]->wait();
        see_answer(held_[2]);
    }
  }

  void after() {
    RL_ASSERT(answers_.load(std::memory_order_relaxed) == 1);
    RL_ASSERT(admission_.outstanding() == 0);
    pool_.take();  // it is there
  }

 private:
  void run_batch() {
    if (!Peer::claim(*request_)) {
      Peer::drop_entry(*request_);
      return;
    }
    Peer::answer(*request_);
    admission_.leave(1);
  }

  void count_answer() {
    answers_.fetch_add(1, std::memory_order_relaxed);
    answer_ = 1;
  }

  void see_answer(RequestRef& held) {
    RL_ASSERT(held->is_done());
    RL_ASSERT(answer_.get() == 1);
    held->outputs[0].data.get();  // a race if it is back in its pool
    held.reset();
  }

  ManualClock clock_;
  SchedulerStats stats_{clock_};
  Admission admission_{BatchingOptions{.queue_capacity = 1}};
  RequestPool pool_{1, 1};
  Request* request_ = nullptr;
  RequestRef held_[3];
  std::atomic<int> answers_;
  Checked<int> answer_;
};

}  // namespace checking
}  // namespace pyruntime

int main() { return pyruntime::checking::explore<pyruntime::checking::Answering>(60'000); }
