#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "memory/faulty_devices.h"
#include "schedule/echo_model.h"
#include "schedule/scheduler.h"

namespace pyruntime {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

struct Count {
  std::atomic<int> calls{0};
  static void add(void* context, Request&) noexcept {
    static_cast<Count*>(context)->calls.fetch_add(1, std::memory_order_relaxed);
  }
};

}  // namespace

TEST_CASE("a version that is being unloaded says so whatever the deadline") {
  EchoSettings settings;
  settings.config = {{"echo.delay_us", "100000"}};
  settings.batching.max_rows = 1;
  const auto model = load_echo(settings);
  Numbers numbers = rows_of_four(1, 0);
  REQUIRE(model->infer(ask(*model, numbers)).ok());  // it knows what a run costs
  const RequestRef running = ask(*model, numbers);
  REQUIRE(model->submit(running).ok());
  const auto refusal = [&] {
    const RequestRef request = ask(*model, numbers);
    request->deadline = SteadyClock::instance().now() + std::chrono::milliseconds(50);
    return model->submit(request).code();
  };
  CHECK(refusal() == ErrorCode::kDeadlineExceeded);
  model->stop_accepting();
  CHECK(refusal() == ErrorCode::kUnavailable);
  running->wait();
}

TEST_CASE("a blocking call returns its own rows") {
  const auto model = load_echo();
  Numbers numbers = rows_of_four(3, 10);
  const RequestRef request = ask(*model, numbers);
  CHECK(model->infer(request).ok());
  CHECK(answer(*request) == numbers.values);
  CHECK(request->outputs[0].shape == numbers.shape);
  CHECK(request->timing.batch_rows == 3);
}

TEST_CASE("an asynchronous request completes once, by its callback") {
  const auto model = load_echo();
  Numbers numbers = rows_of_four(1, 7);
  const RequestRef request = ask(*model, numbers);
  Count count;
  request->on_complete = Count::add;
  request->context = &count;
  CHECK(model->submit(request).ok());
  request->wait();
  model->close();
  CHECK(count.calls == 1);
  CHECK(answer(*request) == numbers.values);
}

TEST_CASE("an asynchronous caller never runs a batch itself") {
  const auto model = load_echo();
  Numbers numbers = rows_of_four(1, 7);
  std::atomic<std::thread::id> ran_on{};
  const RequestRef request = ask(*model, numbers);
  request->on_complete = [](void* context, Request&) noexcept {
    static_cast<std::atomic<std::thread::id>*>(context)->store(std::this_thread::get_id());
  };
  request->context = &ran_on;
  CHECK(model->submit(request).ok());
  request->wait();
  CHECK(ran_on.load() != std::this_thread::get_id());
}

TEST_CASE("a blocking caller alone runs its batch itself") {
  const auto model = load_echo();
  Numbers numbers = rows_of_four(1, 7);
  std::atomic<std::thread::id> ran_on{};
  // The instance's own thread may be on its way to sleep: asked again, it sleeps.
  for (int i = 0; i < 1000 && ran_on.load() != std::this_thread::get_id(); ++i) {
    const RequestRef request = ask(*model, numbers);
    request->on_complete = [](void* context, Request&) noexcept {
      static_cast<std::atomic<std::thread::id>*>(context)->store(std::this_thread::get_id());
    };
    request->context = &ran_on;
    CHECK(model->infer(request).ok());
  }
  CHECK(ran_on.load() == std::this_thread::get_id());
}

TEST_CASE("requests that arrive while a batch runs form the next one") {
  EchoSettings settings;
  settings.config = {{"echo.delay_us", "20000"}};
  const auto model = load_echo(settings);
  std::vector<Numbers> numbers;
  for (int i = 0; i < 9; ++i) numbers.push_back(rows_of_four(1, i * 100));
  std::vector<RequestRef> requests;
  for (Numbers& one : numbers) {
    requests.push_back(ask(*model, one));
    CHECK(model->submit(requests.back()).ok());
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i]->wait();
    CHECK(answer(*requests[i]) == numbers[i].values);
  }
  CHECK(model->stats().batches < requests.size());
}

TEST_CASE("a batch waits for company up to max_delay") {
  EchoSettings settings;
  settings.batching.max_rows = 3;
  settings.batching.max_delay = std::chrono::seconds(20);
  const auto model = load_echo(settings);
  std::vector<Numbers> numbers;
  for (int i = 0; i < 3; ++i) numbers.push_back(rows_of_four(1, i));
  std::vector<RequestRef> requests;
  for (Numbers& one : numbers) {
    requests.push_back(ask(*model, one));
    CHECK(model->submit(requests.back()).ok());
    std::this_thread::sleep_for(milliseconds(2));
  }
  for (const RequestRef& request : requests) {
    request->wait();
    CHECK(request->timing.batch_rows == 3);
  }
}

TEST_CASE("only the bad member of a batch fails") {
  EchoSettings settings;
  settings.config = {{"echo.delay_us", "5000"}, {"echo.fail_value", "666"}};
  for (const Device device : test::a_device_of_each_kind()) {
    settings.instances = {{device, 1}};
    const auto model = load_echo(settings);
    std::vector<Numbers> numbers;
    for (int i = 0; i < 8; ++i) numbers.push_back(rows_of_four(1, i == 4 ? 666 : i));
    std::vector<RequestRef> requests;
    for (Numbers& one : numbers) {
      requests.push_back(ask(*model, one));
      CHECK(model->submit(requests.back()).ok());
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
      requests[i]->wait();
      if (i == 4) {
        CHECK(requests[i]->status.code() == ErrorCode::kEngineError);
      } else {
        REQUIRE(requests[i]->status.ok());
        CHECK(answer(*requests[i]) == numbers[i].values);
      }
    }
    model->close();
    CHECK(model->stats().failed == 1);
    require_conserved(model->stats());
  }
}

TEST_CASE("cancelling the first of a batch leaves the others their answers") {
  EchoSettings settings;
  settings.config = {{"echo.delay_us", "20000"}};
  const auto model = load_echo(settings);
  std::vector<Numbers> numbers;
  for (int i = 0; i < 4; ++i) numbers.push_back(rows_of_four(1, i * 10));
  std::vector<RequestRef> requests;
  for (Numbers& one : numbers) {
    requests.push_back(ask(*model, one));
    CHECK(model->submit(requests.back()).ok());
    if (requests.size() == 1) std::this_thread::sleep_for(milliseconds(5));  // it runs
  }
  CHECK(requests[1]->cancel());
  for (const std::size_t i : {0, 2, 3}) {
    requests[i]->wait();
    CHECK(answer(*requests[i]) == numbers[i].values);
  }
  CHECK(model->stats().cancelled == 1);
}

TEST_CASE("a blocking call ends at its deadline though an instance is busy") {
  EchoSettings settings;
  settings.config = {{"echo.delay_us", "300000"}};
  const auto model = load_echo(settings);
  Numbers slow = rows_of_four(1, 1);
  const RequestRef first = ask(*model, slow);
  CHECK(model->submit(first).ok());
  std::this_thread::sleep_for(milliseconds(20));
  Numbers numbers = rows_of_four(1, 2);
  const RequestRef request = ask(*model, numbers);
  request->deadline = SteadyClock::instance().now() + milliseconds(10);
  CHECK(model->infer(request).code() == ErrorCode::kDeadlineExceeded);
  CHECK_FALSE(first->is_done());
  first->wait();
}

TEST_CASE("a full queue answers Overloaded at once") {
  EchoSettings settings;
  settings.config = {{"echo.delay_us", "50000"}};
  settings.batching.queue_capacity = 2;
  settings.batching.max_rows = 1;
  const auto model = load_echo(settings);
  Numbers numbers = rows_of_four(1, 2);
  std::vector<RequestRef> accepted;
  int refused = 0;
  for (int i = 0; i < 8; ++i) {
    RequestRef request = ask(*model, numbers);
    const Status status = model->submit(request);
    if (status.ok()) {
      accepted.push_back(std::move(request));
    } else {
      CHECK(status.code() == ErrorCode::kOverloaded);
      CHECK(status.message().find("queue_capacity") != std::string::npos);
      ++refused;
    }
  }
  CHECK(refused >= 5);
  for (const RequestRef& request : accepted) {
    request->wait();
    CHECK(request->status.ok());
  }
  CHECK(model->stats().rejected == static_cast<uint64_t>(refused));
}

TEST_CASE("close answers what was accepted and refuses what comes after") {
  EchoSettings settings;
  settings.config = {{"echo.delay_us", "1000"}};
  const auto model = load_echo(settings);
  Numbers numbers = rows_of_four(1, 2);
  std::vector<RequestRef> requests;
  for (int i = 0; i < 100; ++i) {
    requests.push_back(ask(*model, numbers));
    CHECK(model->submit(requests.back()).ok());
  }
  model->close();
  for (const RequestRef& request : requests) {
    CHECK(request->is_done());
    CHECK(request->status.ok());
  }
  CHECK(model->infer(ask(*model, numbers)).code() == ErrorCode::kUnavailable);
}

TEST_CASE("a device has two batches in flight and loses none") {
  test::for_each_faulty_device([](const test::FaultyDevice& faulty) {
    EchoSettings settings;
    settings.instances = {{faulty.device, 1}};
    settings.batching.max_rows = 4;
    faulty.set_faults({.delay = microseconds(200), .delay_jitter = microseconds(200)});
    const auto model = load_echo(settings);
    std::vector<Numbers> numbers;
    for (int i = 0; i < 200; ++i) numbers.push_back(rows_of_four(1, i * 4));
    std::vector<RequestRef> requests;
    for (Numbers& one : numbers) {
      requests.push_back(ask(*model, one));
      CHECK(model->submit(requests.back()).ok());
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
      requests[i]->wait();
      REQUIRE(requests[i]->status.ok());
      CHECK(answer(*requests[i]) == numbers[i].values);
    }
    faulty.set_faults({});
    CHECK(faulty.misuse_count() == 0);
  });
}

// Threads that block, threads that submit, random shapes, cancellations and
// deadlines: every answer is the caller's own, and every request is accounted for.
TEST_CASE("nothing is lost or mixed up under load") {
  constexpr int kThreads = 6;
  constexpr int kRounds = 400;
  for (const Device device : test::a_device_of_each_kind()) {
    EchoSettings settings;
    settings.dims = {-1, -1};
    settings.batching.max_rows = 8;
    settings.batching.queue_capacity = 64;
    settings.instances = {{device, 2}};
    const auto model = load_echo(settings);
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::minstd_rand random(static_cast<unsigned>(t) + 1);
        for (int round = 0; round < kRounds; ++round) {
          const int64_t rows = 1 + static_cast<int64_t>(random() % 3);
          const int64_t columns = 1 + static_cast<int64_t>(random() % 4);
          std::vector<int64_t> values(static_cast<std::size_t>(rows * columns));
          for (int64_t& value : values) value = static_cast<int64_t>(random());
          Numbers numbers(values, Shape{rows, columns});
          const RequestRef request = ask(*model, numbers);
          request->priority = static_cast<Priority>(random() % 3);
          if (random() % 8 == 0) {
            request->deadline = SteadyClock::instance().now() + microseconds(random() % 100);
          }
          Status status;
          if (t % 2 == 0) {
            status = model->infer(request);
          } else {
            status = model->submit(request);
            if (status.ok()) {
              if (random() % 8 == 0) request->cancel();
              request->wait();
              status = request->status;
            }
          }
          const bool is_expected = status.ok() || status.code() == ErrorCode::kOverloaded ||
                                   status.code() == ErrorCode::kCancelled ||
                                   status.code() == ErrorCode::kDeadlineExceeded;
          if (!is_expected) ++wrong;
          if (status.ok() &&
              (answer(*request) != values || request->outputs[0].shape != numbers.shape)) {
            ++wrong;
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    model->close();
    CHECK(wrong == 0);
    const SchedulerStatsSnapshot stats = model->stats();
    require_conserved(stats);
    CHECK(stats.accepted + stats.rejected == kThreads * kRounds);
  }
}

TEST_CASE("what did not fit in a batch is not forgotten") {
  EchoSettings settings;
  settings.batching.max_rows = 32;
  const auto model = load_echo(settings);
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1500; ++i) {
        Numbers numbers = rows_of_four(20, i);  // two never fit together
        const RequestRef request = ask(*model, numbers);
        if (i % 3 == 0) {
          REQUIRE(model->submit(request).ok());
          REQUIRE(request->wait(std::chrono::seconds(30)));
        } else {
          REQUIRE(model->infer(request).ok());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(model->stats().completed == 4500);
}

TEST_CASE("a burst is spread over idle instances") {
  EchoSettings settings;
  settings.config = {{"echo.delay_us", "200000"}};
  settings.batching.max_rows = 1;
  settings.instances = {{Device{}, 4}};
  const auto model = load_echo(settings);
  Numbers numbers = rows_of_four(1, 1);
  std::vector<RequestRef> requests;
  for (int i = 0; i < 4; ++i) {
    requests.push_back(ask(*model, numbers));
    REQUIRE(model->submit(requests.back()).ok());
  }
  for (const RequestRef& request : requests) {
    request->wait();
    CHECK(request->timing.queue_ns < 150'000'000);  // none waited for another's run
  }
}

TEST_CASE("close does not wait for company") {
  EchoSettings settings;
  settings.batching.max_delay = std::chrono::seconds(50);
  settings.instances = {{Device{}, 2}};
  const auto model = load_echo(settings);
  Numbers numbers = rows_of_four(1, 1);
  std::vector<RequestRef> requests;
  for (int i = 0; i < 2; ++i) {
    requests.push_back(ask(*model, numbers));
    REQUIRE(model->submit(requests.back()).ok());
    std::this_thread::sleep_for(milliseconds(5));
  }
  model->close();
  for (const RequestRef& request : requests) CHECK(request->timing.queue_ns < 40'000'000'000);
}

TEST_CASE("instances that wait for company do not split it") {
  EchoSettings settings;
  settings.batching.max_rows = 4;
  settings.batching.max_delay = std::chrono::seconds(50);
  settings.instances = {{Device{}, 3}};
  const auto model = load_echo(settings);
  Numbers numbers = rows_of_four(1, 1);
  std::vector<RequestRef> requests;
  for (int i = 0; i < 8; ++i) {
    requests.push_back(ask(*model, numbers));
    REQUIRE(model->submit(requests.back()).ok());
    std::this_thread::sleep_for(milliseconds(2));
  }
  for (const RequestRef& request : requests) {
    request->wait();
    CHECK(request->timing.batch_rows == 4);
  }
}

TEST_CASE("a request is submitted once") {
  const auto model = load_echo();
  Numbers numbers = rows_of_four(1, 1);
  const RequestRef request = ask(*model, numbers);
  REQUIRE(model->infer(request).ok());
  request->inputs[0] = numbers.view();
  CHECK(model->submit(request).code() == ErrorCode::kInvalidInput);
  CHECK(model->infer(ask(*model, numbers)).ok());
}

TEST_CASE("a completion may drop the last reference to its model") {
  struct Last {
    std::shared_ptr<ModelVersion> model;
    std::atomic<bool> is_dropped{false};
  } last;
  EchoSettings settings;
  settings.config = {{"echo.delay_us", "50000"}};
  last.model = load_echo(settings);
  const std::weak_ptr<ModelVersion> watched = last.model;
  Numbers numbers = rows_of_four(1, 1);
  RequestRef request = ask(*last.model, numbers);
  request->context = &last;
  request->on_complete = [](void* context, Request&) noexcept {
    auto* held = static_cast<Last*>(context);
    held->model.reset();
    held->is_dropped = true;
  };
  REQUIRE(last.model->submit(request).ok());
  request.reset();  // while it runs
  while (!last.is_dropped) std::this_thread::sleep_for(milliseconds(1));
  CHECK(watched.expired());
  std::this_thread::sleep_for(milliseconds(50));  // another thread ends it meanwhile
}

TEST_CASE("a queue of one loses no request") {
  EchoSettings settings;
  settings.batching.queue_capacity = 1;
  const auto model = load_echo(settings);
  std::vector<std::thread> threads;
  std::atomic<int> done{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        Numbers numbers = rows_of_four(1, t * 1000 + i);
        const RequestRef request = ask(*model, numbers);
        Status status;
        do {
          status = t % 2 == 0 ? model->infer(request) : model->submit(request);
          if (!status.ok()) std::this_thread::yield();
        } while (status.code() == ErrorCode::kOverloaded);
        request->wait();
        if (answer(*request) == numbers.values) ++done;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(done == 2000);
}

}  // namespace pyruntime
