// What a load generator sends its requests to: a model in this process, or
// nothing at all, which shows how many the generator itself can send.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "serving/model.h"

namespace pyruntime {

// A request for `inputs`, which must outlive it, in the signature's order.
inline RequestRef make_request(ModelVersion& model, std::span<const Tensor> inputs) {
  RequestRef request = model.new_request();
  std::ranges::copy(inputs, request->inputs.begin());
  return request;
}

// Threads: send() from any.
class ModelSender {
 public:
  // `model` and the memory of `inputs` must outlive it.
  ModelSender(ModelVersion& model, std::span<const Tensor> inputs)
      : model_(model), inputs_(inputs.begin(), inputs.end()) {}

  // caller.finish(status) is called once if this returns ok, else never.
  template <typename Caller>
  [[nodiscard]] Status send(Caller& caller, TimePoint deadline = kNever) {
    RequestRef request = make_request(model_, inputs_);
    request->deadline = deadline;
    request->context = &caller;
    request->on_complete = [](void* context, Request& done) noexcept {
      static_cast<Caller*>(context)->finish(done.status);
    };
    return model_.submit(std::move(request));
  }

 private:
  ModelVersion& model_;
  const std::vector<Tensor> inputs_;
};

// Answers at once, on a thread of its own, as a model does.
//
// Threads: send() from any.
class NullSender {
 public:
  NullSender() : thread_([this] { answer(); }) {}
  ~NullSender() {
    {
      const std::lock_guard lock(mutex_);
      stops_ = true;
    }
    has_work_.notify_one();
    thread_.join();
  }

  NullSender(const NullSender&) = delete;
  NullSender& operator=(const NullSender&) = delete;

  template <typename Caller>
  [[nodiscard]] Status send(Caller& caller, TimePoint /*deadline*/ = kNever) {
    const Answer answer = {[](void* to) { static_cast<Caller*>(to)->finish(Status()); }, &caller};
    if (std::this_thread::get_id() == thread_.get_id()) {
      own_.push_back(answer);  // sent by whom we are answering: no lock
      return {};
    }
    const std::lock_guard lock(mutex_);
    if (waiting_.empty()) has_work_.notify_one();
    waiting_.push_back(answer);
    return {};
  }

 private:
  struct Answer {
    void (*finish)(void* caller);
    void* caller;
  };

  void answer() {
    while (true) {
      {
        std::unique_lock lock(mutex_);
        if (own_.empty()) has_work_.wait(lock, [&] { return stops_ || !waiting_.empty(); });
        if (stops_) return;
        own_.insert(own_.end(), waiting_.begin(), waiting_.end());
        waiting_.clear();
      }
      // Not until it is empty: who waits above gets a turn.
      for (std::size_t i = 0; i < kAtOnce && !own_.empty(); ++i) {
        const Answer next = own_.front();
        own_.pop_front();
        next.finish(next.caller);
      }
    }
  }

  static constexpr std::size_t kAtOnce = 64;

  std::mutex mutex_;
  std::condition_variable has_work_;
  std::vector<Answer> waiting_;  // guarded by mutex_
  bool stops_ = false;           // guarded by mutex_
  std::deque<Answer> own_;       // the thread's
  std::thread thread_;           // last: uses all of the above
};

}  // namespace pyruntime
