// Everything at once against one model, in orders drawn at random: callers that
// block, that submit, that cancel, that set deadlines; shapes, priorities,
// failing inputs; rings of one cell, one core, several instances, max_delay; and
// a close in the middle. Every accepted request is answered once, with what it
// asked or a reason, and the counters add up.
//
// PYRUNTIME_STRESS_SECONDS: of each case, 1 if not set. PYRUNTIME_STRESS_SEED: of
// the first model; it is printed.
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sched.h>

#include "base/interleaving.h"
#include "memory/faulty_devices.h"
#include "schedule/echo_model.h"

namespace pyruntime {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Random = std::minstd_rand;

constexpr int64_t kFailing = 666;
constexpr int kThreads = 5;
constexpr milliseconds kRound{250};  // of one model, until its close

double setting(const char* name, double otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtod(text, nullptr);
}

// One request of the asynchronous kind, from its submission to its answer, and perhaps another
// that its callback submits.
struct Pending {
  Pending(ModelVersion& model, Numbers asked);

  static void see(void* context, Request&) noexcept {
    auto& one = *static_cast<Pending*>(context);
    one.answers.fetch_add(1, std::memory_order_relaxed);
    if (one.next == nullptr) return;
    one.is_next_accepted = one.next->submit().ok();
  }
  Status submit() const { return model.submit(request); }

  ModelVersion& model;
  Numbers numbers;
  RequestRef request;
  std::atomic<int> answers{0};
  std::unique_ptr<Pending> next;
  bool is_next_accepted = false;  // once `request` is done
};

Pending::Pending(ModelVersion& of, Numbers asked)
    : model(of), numbers(std::move(asked)), request(ask(model, numbers)) {
  request->context = this;
  request->on_complete = see;
}

// What all threads of one model share.
struct Round {
  std::shared_ptr<ModelVersion> model;
  std::atomic<uint64_t> accepted{0};
  std::atomic<uint64_t> answered{0};
  std::atomic<uint64_t> wrong{0};
  // All meet here now and then: a request that was forgotten is found only if
  // no later one comes to its rescue.
  std::barrier<> quiet{kThreads};
};

// Ends the process with what is known when no request moves for ten seconds.
class ProgressWatch {
 public:
  explicit ProgressWatch(const Round& round, unsigned seed)
      : thread_([this, &round, seed] { watch(round, seed); }) {}
  ~ProgressWatch() {
    is_over_ = true;
    thread_.join();
  }

 private:
  void watch(const Round& round, unsigned seed) const {
    uint64_t last = 0;
    auto moved_at = std::chrono::steady_clock::now();
    while (!is_over_.load()) {
      std::this_thread::sleep_for(milliseconds(20));
      const uint64_t answered = round.answered.load();
      const auto now = std::chrono::steady_clock::now();
      if (answered != last) moved_at = now;
      last = answered;
      if (now - moved_at < seconds(10)) continue;
      const SchedulerStatsSnapshot stats = round.model->stats();
      std::fprintf(stderr,
                   "stress: nothing has moved for 10 s (a lost wake-up?): seed %u, callers "
                   "count accepted %llu, answered %llu; the model: accepted %llu, completed %llu, "
                   "failed %llu, cancelled %llu, batches %llu\n",
                   seed, static_cast<unsigned long long>(round.accepted.load()),
                   static_cast<unsigned long long>(answered),
                   static_cast<unsigned long long>(stats.accepted),
                   static_cast<unsigned long long>(stats.completed),
                   static_cast<unsigned long long>(stats.failed),
                   static_cast<unsigned long long>(stats.cancelled),
                   static_cast<unsigned long long>(stats.batches));
      std::abort();
    }
  }

  std::atomic<bool> is_over_{false};
  std::thread thread_;
};

Numbers draw_numbers(Random& random) {
  const auto rows = static_cast<int64_t>(1 + random() % 3);
  const auto columns = static_cast<int64_t>(1 + random() % 3);
  std::vector<int64_t> values(static_cast<std::size_t>(rows * columns));
  for (int64_t& value : values) value = 1000 + static_cast<int64_t>(random());
  if (random() % 16 == 0) values.back() = kFailing;
  return {std::move(values), Shape{rows, columns}};
}

// Whether a request may end so.
bool is_right(const Request& request, const Numbers& numbers) {
  switch (request.status.code()) {
    case ErrorCode::kOk:
      return answer(request) == numbers.values && request.outputs[0].shape == numbers.shape &&
             numbers.values.back() != kFailing;
    case ErrorCode::kEngineError:
      return numbers.values.back() == kFailing;
    case ErrorCode::kCancelled:
    case ErrorCode::kDeadlineExceeded:
      return true;
    default:
      return false;
  }
}

void dress(Request& request, Random& random) {
  request.priority = static_cast<Priority>(random() % kPriorityCount);
  if (random() % 8 == 0) {
    request.deadline = SteadyClock::instance().now() + microseconds(random() % 300);
  }
}

// Whether the model has refused for good.
bool block(Round& round, Random& random) {
  Numbers numbers = draw_numbers(random);
  const RequestRef request = ask(*round.model, numbers);
  dress(*request, random);
  const Status status = round.model->infer(request);
  if (!request->is_done()) return status.code() == ErrorCode::kUnavailable;
  ++round.accepted;
  ++round.answered;
  if (!is_right(*request, numbers)) ++round.wrong;
  return false;
}

bool submit_some(Round& round, Random& random, test::RandomYield& maybe_yield) {
  std::vector<std::unique_ptr<Pending>> all;
  bool is_refused = false;
  for (auto left = 1 + random() % 6; left != 0 && !is_refused; --left) {
    auto one = std::make_unique<Pending>(*round.model, draw_numbers(random));
    dress(*one->request, random);
    for (Pending* last = one.get(); random() % 3 == 0; last = last->next.get()) {
      last->next = std::make_unique<Pending>(*round.model, draw_numbers(random));
      if (random() % 2 == 0) dress(*last->next->request, random);
    }
    const Status status = one->submit();
    is_refused = status.code() == ErrorCode::kUnavailable;
    if (!status.ok()) continue;
    ++round.accepted;
    maybe_yield();
    all.push_back(std::move(one));
    if (random() % 6 == 0) all[random() % all.size()]->request->cancel();
  }
  for (const auto& first : all) {
    for (const Pending* one = first.get(); one != nullptr;) {
      one->request->wait();
      ++round.answered;
      if (one->answers != 1 || !is_right(*one->request, one->numbers)) ++round.wrong;
      if (!one->is_next_accepted) break;
      one = one->next.get();
      ++round.accepted;
    }
  }
  return is_refused;
}

void call(Round& round, unsigned seed) {
  Random random(seed + 1);
  test::RandomYield maybe_yield(seed);
  for (int step = 1;; ++step) {
    const bool is_refused =
        random() % 2 == 0 ? block(round, random) : submit_some(round, random, maybe_yield);
    if (is_refused) {
      round.quiet.arrive_and_drop();
      return;
    }
    if (step % 3 == 0) round.quiet.arrive_and_wait();
    maybe_yield();
  }
}

void run_round(const EchoSettings& settings, unsigned seed) {
  Round round;
  round.model = load_echo(settings);
  const ProgressWatch watch(round, seed);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&round, seed, t] { call(round, seed * 31 + t); });
  }
  std::this_thread::sleep_for(kRound);
  round.model->close();  // while they ask
  for (std::thread& thread : threads) thread.join();

  const SchedulerStatsSnapshot stats = round.model->stats();
  CHECK(round.wrong == 0);
  CHECK(round.answered == round.accepted);
  CHECK(stats.accepted == round.accepted);
  require_conserved(stats);
}

void stress(const EchoSettings& settings) {
  const auto first = static_cast<unsigned>(
      setting("PYRUNTIME_STRESS_SEED", static_cast<double>(std::random_device{}())));
  MESSAGE("seed " << first);
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::duration<double>(setting("PYRUNTIME_STRESS_SECONDS", 1));
  unsigned seed = first;
  do {
    CAPTURE(seed);
    run_round(settings, seed++);
  } while (std::chrono::steady_clock::now() < end);
}

EchoSettings any_shape(int64_t max_rows, int queue_capacity, int instances) {
  EchoSettings settings;
  settings.dims = {-1, -1};
  settings.batching.max_rows = max_rows;
  settings.batching.queue_capacity = queue_capacity;
  settings.instances = {{Device{}, instances}};
  settings.config = {{"echo.fail_value", std::to_string(kFailing)}};
  return settings;
}

// Keeps this thread and those that it starts on one core.
class OneCore {
 public:
  OneCore() {
    REQUIRE(sched_getaffinity(0, sizeof(before_), &before_) == 0);
    int core = 0;
    while (!CPU_ISSET(core, &before_)) ++core;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    REQUIRE(sched_setaffinity(0, sizeof(one), &one) == 0);
  }
  ~OneCore() { sched_setaffinity(0, sizeof(before_), &before_); }

 private:
  cpu_set_t before_{};
};

}  // namespace

TEST_CASE("stress: one instance") { stress(any_shape(8, 64, 1)); }

TEST_CASE("stress: several instances") { stress(any_shape(4, 64, 3)); }

TEST_CASE("stress: a queue of one cell") { stress(any_shape(8, 1, 2)); }

TEST_CASE("stress: one core") {
  const OneCore pinned;
  stress(any_shape(8, 16, 2));
}

TEST_CASE("stress: batches that wait for company") {
  EchoSettings settings = any_shape(6, 64, 2);
  settings.batching.max_delay = microseconds(200);
  stress(settings);
}

TEST_CASE("stress: a device with two batches in flight") {
  test::for_each_faulty_device([](const test::FaultyDevice& faulty) {
    const uint64_t misuses = faulty.misuse_count();
    EchoSettings settings = any_shape(8, 64, 2);
    settings.instances = {{faulty.device, 2}};
    settings.config.emplace_back("echo.delay_us", "50");
    stress(settings);
    CHECK(faulty.misuse_count() == misuses);
  });
}

TEST_CASE("stress: a device that copies beside its runs") {
  test::for_each_faulty_device([](const test::FaultyDevice& faulty) {
    const uint64_t misuses = faulty.misuse_count();
    EchoSettings settings = any_shape(8, 64, 2);
    settings.instances = {{faulty.device, 2}};
    settings.overlap = Overlap::kThree;
    settings.config.emplace_back("echo.delay_us", "50");
    stress(settings);
    CHECK(faulty.misuse_count() == misuses);
  });
}

TEST_CASE("stress: instances on two devices") {
  test::for_each_faulty_device([](const test::FaultyDevice& faulty) {
    const uint64_t misuses = faulty.misuse_count();
    EchoSettings settings = any_shape(8, 64, 2);
    settings.instances = {{faulty.device, 1}, {faulty.other(), 1}};
    stress(settings);
    CHECK(faulty.misuse_count() == misuses);
  });
}

}  // namespace pyruntime
