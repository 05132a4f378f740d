// Batches that run as captured graphs of a device: filled up to what was captured,
// by the thread that captured it. The echo engine replays nothing, but refuses to
// run on another thread.
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "memory/faulty_devices.h"
#include "schedule/echo_model.h"

namespace pyruntime {
namespace {

using namespace std::chrono_literals;
using test::Faults;
using test::FaultyDevice;
using test::for_each_faulty_device;

std::shared_ptr<ModelVersion> load_captured(Device device, std::vector<int64_t> rows,
                                            int instances = 1,
                                            std::chrono::nanoseconds stuck_after = 30s) {
  EchoSettings settings;
  settings.instances = {{device, instances}};
  settings.batching.max_rows = 16;
  settings.graph_rows = std::move(rows);
  settings.stuck_after = stuck_after;
  return load_echo(settings);
}

void check_answered(ModelVersion& model, int64_t rows, int64_t first) {
  Numbers numbers = rows_of_four(rows, first);
  const RequestRef request = ask(model, numbers);
  REQUIRE_MESSAGE(model.infer(request).ok(), request->status.to_string());
  CHECK(answer(*request) == numbers.values);
  CHECK(request->outputs[0].shape == numbers.shape);
}

EchoSettings captured_on_device() {
  EchoSettings settings;
  settings.instances = {{Device{DeviceKind::kSimulated, 0}, 1}};
  settings.graph_rows = {1, 4};
  return settings;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a batch is filled up to the next captured size, and each member gets its own rows") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const uint64_t misuses = faulty.misuse_count();
    const auto model = load_captured(faulty.device, {1, 4, 16});
    for (int64_t rows = 1; rows <= 16; ++rows) check_answered(*model, rows, rows * 100);
    CHECK(model->stats().replayed == 16);
    // Several together, from other threads.
    std::vector<Numbers> numbers;
    for (int i = 0; i < 40; ++i) numbers.push_back(rows_of_four(1 + i % 3, i * 1000));
    std::vector<RequestRef> requests;
    for (Numbers& one : numbers) {
      requests.push_back(ask(*model, one));
      REQUIRE(model->submit(requests.back()).ok());
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
      requests[i]->wait();
      REQUIRE(requests[i]->status.ok());
      CHECK(answer(*requests[i]) == numbers[i].values);
    }
    model->close();
    CHECK(model->stats().replayed == model->stats().batches);
    CHECK(model->stats().retried == 0);
    require_conserved(model->stats());
    CHECK(faulty.misuse_count() == misuses);
  });
}

TEST_CASE("a batch larger than all that was captured runs without") {
  const auto model = load_captured({DeviceKind::kSimulated, 0}, {1, 2});
  check_answered(*model, 2, 1);
  check_answered(*model, 3, 7);
  model->close();
  CHECK(model->stats().batches == 2);
  CHECK(model->stats().replayed == 1);
}

TEST_CASE("all that runs does so on the thread that captured, whoever asks") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const auto model = load_captured(faulty.device, {1, 4}, 3);
    REQUIRE(model->warm_up(1, 3).ok());
    REQUIRE(model->warm_up(4, 3).ok());
    std::vector<std::thread> callers;
    std::atomic<int> failed{0};
    for (int caller = 0; caller < 4; ++caller) {
      callers.emplace_back([&, caller] {
        for (int i = 0; i < 50; ++i) {
          Numbers numbers = rows_of_four(1, caller * 1000 + i);
          const RequestRef request = ask(*model, numbers);
          if (!model->infer(request).ok() || answer(*request) != numbers.values) ++failed;
        }
      });
    }
    // A warm-up takes its turn beside them.
    CHECK(model->warm_up(4, 2).ok());
    for (std::thread& caller : callers) caller.join();
    model->close();
    CHECK(failed == 0);
    // The engine refuses a graph on another thread; the request would run again without.
    CHECK(model->stats().replayed == model->stats().batches);
    CHECK(model->stats().accepted == 200);
    require_conserved(model->stats());
  });
}

TEST_CASE("a request aside of the others runs on that thread, too") {
  const auto model = load_captured({DeviceKind::kSimulated, 0}, {1, 4});
  Numbers numbers = rows_of_four(2, 5);
  const RequestRef request = ask(*model, numbers);
  REQUIRE(model->infer_aside(request).ok());
  CHECK(answer(*request) == numbers.values);
  model->close();
  CHECK(model->stats().replayed == 1);
  CHECK(model->stats().batches == 1);
}

TEST_CASE("what fills a batch up is nobody's rows") {
  // The value that an earlier request left behind would fail the run.
  EchoSettings settings = captured_on_device();
  settings.graph_rows = {4};
  settings.config = {{"echo.fail_value", "7"}};
  const auto model = load_echo(settings);
  Numbers bad = {{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 7, 7, 7, 7}, Shape{4, 4}};
  CHECK(model->infer(ask(*model, bad)).code() == ErrorCode::kEngineError);
  for (int i = 0; i < 4; ++i) check_answered(*model, 1, 100);
  CHECK(model->stats().failed == 1);
}

TEST_CASE("a graph's memory goes with the version") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const uint64_t used = faulty.used_bytes();
    auto model = load_captured(faulty.device, {1, 4, 16}, 2);
    check_answered(*model, 3, 1);
    CHECK(faulty.used_bytes() > used);
    model.reset();
    CHECK(faulty.used_bytes() == used);
  });
}

TEST_CASE("an instance that is replaced captures anew") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const auto model = load_captured(faulty.device, {1, 4}, 1, 150ms);
    Numbers numbers = rows_of_four(1, 3);
    {
      const Faults faults(faulty, {.stall_after = 1});
      CHECK(model->infer(ask(*model, numbers)).code() == ErrorCode::kEngineError);
      for (int i = 0; i < 5; ++i) check_answered(*model, 3, i * 10);
    }
    model->close();
    CHECK(model->stats().replaced == 1);
    CHECK(model->stats().replayed == 5);
    require_conserved(model->stats());
  });
}

TEST_CASE("a version whose graphs cannot be captured is not loaded") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const uint64_t misuses = faulty.misuse_count();
    for (int64_t after = 0; after < 3; ++after) {
      const Faults faults(faulty, {.fail_after = after});
      CHECK_THROWS_AS(load_captured(faulty.device, {1, 4}), const Error&);
    }
    {
      const Faults faults(faulty, {.memory_bytes = 0});
      CHECK_THROWS_AS(load_captured(faulty.device, {1, 4}), const Error&);
    }
    check_answered(*load_captured(faulty.device, {1, 4}), 3, 1);
    CHECK(faulty.misuse_count() == misuses);
  });
}

TEST_CASE("graphs that cannot be are refused with the reason") {
  EchoSettings settings = captured_on_device();
  CHECK(load_refusal(settings) == "accepted");

  settings.instances = {InstanceGroup{}};
  CHECK(has(load_refusal(settings), "cuda_graphs: expected instances on CUDA devices, got 'cpu'"));

  settings = captured_on_device();
  settings.graph_rows = {4, 4};
  CHECK(has(load_refusal(settings), "expected rows from 1 on, ascending"));
  settings.graph_rows = {0};
  CHECK(has(load_refusal(settings), "expected rows from 1 on, ascending"));
  settings.graph_rows = {1, 64};
  settings.batching.max_rows = 32;
  CHECK(has(load_refusal(settings), "expected at most max_rows, 32, got 64"));

  settings = captured_on_device();
  settings.dims = {-1, -1};
  CHECK(has(load_refusal(settings),
            "input 'input' is int64[*, *], where a graph needs all but the rows fixed"));

  settings = captured_on_device();
  settings.dims = {4};  // no rows
  CHECK(has(load_refusal(settings),
            "expected (1), as requests to this model are not batched, got 4"));
  settings.graph_rows = {1};
  CHECK(load_refusal(settings) == "accepted");
}

}  // namespace pyruntime
