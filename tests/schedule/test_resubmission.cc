// What callbacks submit: it may go straight into the batch that the answering thread forms next.
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "schedule/echo_model.h"

namespace pyruntime {
namespace {

using std::chrono::milliseconds;

// Asks again when it is answered, each time for other rows, until it has asked `turns` times.
class Caller {
 public:
  Caller(std::shared_ptr<ModelVersion> model, int64_t first, int turns)
      : model_(std::move(model)), turns_(turns), numbers_(rows_of_four(1, first)) {}

  Status ask() {
    RequestRef request = pyruntime::ask(*model_, numbers_);
    request->context = this;
    request->on_complete = [](void* context, Request& done) noexcept {
      static_cast<Caller*>(context)->see(done);
    };
    request->priority = priority;
    return keeps_reference ? model_->submit(request) : model_->submit(std::move(request));
  }
  void wait() const {
    while (!is_done_.load(std::memory_order_acquire)) std::this_thread::sleep_for(milliseconds(1));
  }

  int turns() const { return taken_.load(std::memory_order_relaxed); }
  int wrong() const { return wrong_; }
  int64_t batch_rows() const { return batch_rows_; }  // of all runs together

  Priority priority = Priority::kNormal;
  bool keeps_reference = false;

 private:
  void see(const Request& done) noexcept {
    if (!done.status.ok() || answer(done) != numbers_.values) ++wrong_;
    batch_rows_ += done.timing.batch_rows;
    if (taken_.fetch_add(1, std::memory_order_relaxed) + 1 == turns_) {
      is_done_.store(true, std::memory_order_release);
      return;
    }
    // Another caller's memory may hold the answer; the next is not to match by chance.
    for (int64_t& value : numbers_.values) value += 1000;
    if (!ask().ok()) {
      ++wrong_;
      is_done_.store(true, std::memory_order_release);
    }
  }

  const std::shared_ptr<ModelVersion> model_;
  const int turns_;
  Numbers numbers_;
  std::atomic<int> taken_{0};
  int wrong_ = 0;
  int64_t batch_rows_ = 0;
  std::atomic<bool> is_done_{false};
};

using Callers = std::vector<std::unique_ptr<Caller>>;

Callers make_callers(const std::shared_ptr<ModelVersion>& model, int count, int turns) {
  Callers callers;
  for (int i = 0; i < count; ++i) {
    callers.push_back(std::make_unique<Caller>(model, int64_t{i} * 1'000'000, turns));
    callers.back()->keeps_reference = i % 2 == 0;
  }
  return callers;
}

void run(const Callers& callers) {
  for (const auto& caller : callers) REQUIRE(caller->ask().ok());
  for (const auto& caller : callers) caller->wait();
}

}  // namespace

TEST_CASE("callers that ask again when answered keep their batches full and their answers apart") {
  constexpr int kTurns = 500;
  EchoSettings settings;
  settings.config = {{"echo.delay_us", "200"}};  // whatever the rows: no batch is too large
  settings.batching.max_rows = 8;
  const auto model = load_echo(settings);
  const Callers callers = make_callers(model, 8, kTurns);
  run(callers);
  model->close();
  int64_t batch_rows = 0;
  for (const auto& caller : callers) {
    CHECK(caller->turns() == kTurns);
    CHECK(caller->wrong() == 0);
    batch_rows += caller->batch_rows();
  }
  CHECK(batch_rows > 7 * 8 * kTurns);  // of rows in company of 8, but for the first and the last
  const SchedulerStatsSnapshot stats = model->stats();
  require_conserved(stats);
  CHECK(stats.completed == 8 * kTurns);
}

TEST_CASE("who asks again leaves nobody behind, however batches are run") {
  constexpr int kTurns = 300;
  struct Kind {
    int instances;
    std::chrono::microseconds max_delay;
    int64_t max_rows;
    int64_t capacity;
  };
  // One and several instances, waiting for company, no batches, a queue no larger than needed.
  for (const Kind& kind :
       {Kind{1, {}, 4, 64}, Kind{2, {}, 4, 64}, Kind{1, std::chrono::microseconds(200), 4, 64},
        Kind{1, {}, 1, 64}, Kind{1, {}, 16, 16}}) {
    EchoSettings settings;
    settings.batching.max_rows = kind.max_rows;
    settings.batching.max_delay = kind.max_delay;
    settings.batching.queue_capacity = kind.capacity;
    settings.instances = {{Device{}, kind.instances}};
    const auto model = load_echo(settings);
    const Callers callers = make_callers(model, 6, kTurns);
    // Blocking callers run batches too, and hand over after some: what has joined the next one
    // by then must not be lost.
    std::atomic<bool> stops{false};
    std::atomic<int> wrong{0};
    std::vector<std::thread> blocking;
    for (int t = 0; t < 2; ++t) {
      blocking.emplace_back([&, t] {
        for (int64_t i = 0; !stops.load(std::memory_order_relaxed); ++i) {
          Numbers numbers = rows_of_four(2, -1'000'000 * (t + 1) - i);
          const RequestRef request = ask(*model, numbers);
          if (!model->infer(request).ok() || answer(*request) != numbers.values) ++wrong;
        }
      });
    }
    run(callers);
    stops = true;
    for (std::thread& thread : blocking) thread.join();
    model->close();
    CHECK(wrong == 0);
    for (const auto& caller : callers) CHECK(caller->wrong() == 0);
    require_conserved(model->stats());
  }
}

TEST_CASE("who asks again does not keep others waiting") {
  EchoSettings settings;
  settings.config = {{"echo.delay_us", "2000"}};
  settings.batching.max_rows = 2;
  const auto model = load_echo(settings);
  const Callers callers = make_callers(model, 4, 100);  // two batches of their own
  for (const auto& caller : callers) REQUIRE(caller->ask().ok());
  Numbers numbers = rows_of_four(1, -7);
  for (const Priority priority : {Priority::kHigh, Priority::kNormal}) {
    const RequestRef other = ask(*model, numbers);
    other->priority = priority;
    REQUIRE(model->submit(other).ok());
    other->wait();
    // It was in the queue before those who were answered meanwhile came back.
    for (const auto& caller : callers) CHECK(caller->turns() < 50);
  }
  for (const auto& caller : callers) caller->wait();
}

TEST_CASE("what has joined the next batch can be cancelled") {
  const auto model = load_echo();
  struct Chain {
    ModelVersion* model = nullptr;
    Numbers numbers = rows_of_four(1, 3);
    RequestRef joined;
    int cancelled = 0;
  } chain;
  chain.model = model.get();
  for (int i = 0; i < 100; ++i) {
    RequestRef first = ask(*model, chain.numbers);
    first->context = &chain;
    first->on_complete = [](void* context, Request&) noexcept {
      auto& at = *static_cast<Chain*>(context);
      at.joined = ask(*at.model, at.numbers);
      if (at.model->submit(at.joined).ok() && at.joined->cancel()) ++at.cancelled;
    };
    REQUIRE(model->infer(first).ok());
    chain.joined->wait();
    CHECK(chain.joined->status.code() == ErrorCode::kCancelled);
    Numbers numbers = rows_of_four(1, i);
    const RequestRef next = ask(*model, numbers);
    CHECK(model->infer(next).ok());
    CHECK(answer(*next) == numbers.values);
  }
  model->close();
  CHECK(chain.cancelled == 100);
  const SchedulerStatsSnapshot stats = model->stats();
  require_conserved(stats);
  CHECK(stats.cancelled == 100);
}

TEST_CASE("a warm-up loses nothing of the batch that was being joined") {
  constexpr int kTurns = 300;
  EchoSettings settings;
  settings.batching.max_rows = 4;
  const auto model = load_echo(settings);
  const Callers callers = make_callers(model, 3, kTurns);
  std::atomic<bool> stops{false};
  std::atomic<int> wrong{0};
  std::thread warming([&] {
    while (!stops.load(std::memory_order_relaxed)) {
      if (!model->warm_up(1, 1).ok()) ++wrong;
    }
  });
  // Blocking callers hand the instance over between batches.
  std::thread blocking([&] {
    Numbers numbers = rows_of_four(1, -1);
    while (!stops.load(std::memory_order_relaxed)) {
      if (!model->infer(ask(*model, numbers)).ok()) ++wrong;
    }
  });
  run(callers);
  stops = true;
  warming.join();
  blocking.join();
  model->close();
  CHECK(wrong == 0);
  for (const auto& caller : callers) CHECK(caller->wrong() == 0);
  require_conserved(model->stats());
}

TEST_CASE("a reference that was given up is with the caller again when the request is refused") {
  EchoSettings settings;
  const auto model = load_echo(settings);
  model->stop_accepting();
  Numbers numbers = rows_of_four(1, 1);
  RequestRef request = ask(*model, numbers);
  CHECK(model->submit(std::move(request)).code() == ErrorCode::kUnavailable);
  REQUIRE(static_cast<bool>(request));
  CHECK(request->inputs[0].data == numbers.view().data);
}

}  // namespace pyruntime
