// Requests that are given up while they run, results that are kept, and devices
// that are late, fail, are full or never come back.
#include <atomic>
#include <chrono>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "engine/onnx_fixture.h"
#include "memory/faulty_devices.h"
#include "schedule/echo_model.h"

namespace pyruntime {
namespace {

using namespace std::chrono_literals;
using test::Faults;
using test::FaultyDevice;
using test::for_each_faulty_device;

// At most ten seconds.
bool comes_true(const std::function<bool()>& condition) {
  for (int i = 0; i < 10'000 && !condition(); ++i) std::this_thread::sleep_for(1ms);
  return condition();
}

std::shared_ptr<ModelVersion> load_slow(Device device, const std::string& delay_us = "60000000") {
  EchoSettings settings;
  settings.config = {{"echo.delay_us", delay_us}};
  settings.instances = {{device, 1}};
  return load_echo(settings);
}

// Whatever was taken out of the queue runs in a moment.
void let_run() { std::this_thread::sleep_for(5ms); }

// Submits as many requests of one row; those behind the first share a batch.
std::vector<RequestRef> submit(ModelVersion& model, std::vector<Numbers>& numbers, int count) {
  std::vector<RequestRef> requests;
  for (int i = 0; i < count; ++i) numbers.push_back(rows_of_four(1, i * 10));
  for (Numbers& one : numbers) {
    requests.push_back(ask(model, one));
    REQUIRE(model.submit(requests.back()).ok());
    if (requests.size() == 1) let_run();
  }
  return requests;
}

}  // namespace

// --- cancellation

TEST_CASE("cancelling the only member of a running batch ends its run") {
  for (const Device device : test::a_device_of_each_kind()) {
    const auto model = load_slow(device);
    Numbers numbers = rows_of_four(1, 1);
    const RequestRef request = ask(*model, numbers);
    REQUIRE(model->submit(request).ok());
    let_run();
    CHECK_FALSE(request->cancel());
    request->wait();  // well within the minute
    CHECK(request->status.code() == ErrorCode::kCancelled);
    CHECK(request->outputs[0].data == nullptr);
    model->close();
    CHECK(model->stats().cancelled == 1);
    require_conserved(model->stats());
  }
}

TEST_CASE("cancelling what a blocking caller runs on its own thread ends its call") {
  const auto model = load_slow(Device{});
  Numbers numbers = rows_of_four(1, 1);
  const RequestRef request = ask(*model, numbers);
  std::thread other([&] {
    CHECK(comes_true([&] { return model->outstanding() == 1; }));
    std::this_thread::sleep_for(5ms);
    request->cancel();
  });
  CHECK(model->infer(request).code() == ErrorCode::kCancelled);
  other.join();
}

TEST_CASE("a running batch goes on while one member is wanted, and ends with the last") {
  for (const Device device : test::a_device_of_each_kind()) {
    const auto model = load_slow(device, "100000");
    std::vector<Numbers> numbers;
    // The first runs, or on the device two do; what comes then waits and runs together.
    std::vector<RequestRef> requests = submit(*model, numbers, 8);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      if (i != 5) requests[i]->cancel();
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
      requests[i]->wait();
      if (i == 5) {
        CHECK(answer(*requests[i]) == numbers[i].values);
      } else {
        CHECK(requests[i]->status.code() == ErrorCode::kCancelled);
      }
    }
    model->close();
    CHECK(model->stats().completed == 1);
    CHECK(model->stats().cancelled == 7);
    require_conserved(model->stats());
  }
}

TEST_CASE("a running member that was cancelled is answered as cancelled, others get results") {
  EchoSettings settings;
  settings.config = {{"echo.delay_us", "100000"}};
  const auto model = load_echo(settings);
  std::vector<Numbers> numbers;
  std::vector<RequestRef> requests = submit(*model, numbers, 4);
  requests[0]->wait();  // now the others run together
  let_run();
  CHECK_FALSE(requests[2]->cancel());
  CHECK_FALSE(requests[2]->is_done());
  for (const std::size_t i : {1, 3}) {
    requests[i]->wait();
    CHECK(requests[i]->timing.batch_rows == 3);
    CHECK(answer(*requests[i]) == numbers[i].values);
  }
  requests[2]->wait();
  CHECK(requests[2]->status.code() == ErrorCode::kCancelled);
}

TEST_CASE("a run that was ended does not end the next") {
  for (const Device device : test::a_device_of_each_kind()) {
    const auto model = load_slow(device, "20000");
    for (int i = 0; i < 5; ++i) {
      Numbers numbers = rows_of_four(1, i);
      const RequestRef gone = ask(*model, numbers);
      REQUIRE(model->submit(gone).ok());
      std::this_thread::sleep_for(2ms);
      gone->cancel();
      const RequestRef stays = ask(*model, numbers);
      CHECK(model->infer(stays).ok());
      CHECK(answer(*stays) == numbers.values);
      gone->wait();
      CHECK(gone->status.code() == ErrorCode::kCancelled);
    }
  }
}

TEST_CASE("requests cancelled at any moment end once and leave others alone") {
  for (const Device device : test::a_device_of_each_kind()) {
    EchoSettings settings;
    settings.config = {{"echo.delay_us", "50"}};
    settings.batching.max_rows = 3;
    settings.instances = {{device, 2}};
    const auto model = load_echo(settings);
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (unsigned seed = 0; seed < 4; ++seed) {
      callers.emplace_back([&, seed] {
        std::minstd_rand random(seed + 1);
        for (int i = 0; i < 200; ++i) {
          Numbers numbers = rows_of_four(1, static_cast<int64_t>(random()));
          const RequestRef request = ask(*model, numbers);
          const bool cancels = random() % 2 == 0;
          if (!model->submit(request).ok()) ++wrong;
          if (cancels) {
            const auto until =
                std::chrono::steady_clock::now() + std::chrono::microseconds(random() % 200);
            while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
            request->cancel();
          }
          request->wait();
          const bool is_cancelled = request->status.code() == ErrorCode::kCancelled;
          if (!(cancels && is_cancelled) &&
              !(request->status.ok() && answer(*request) == numbers.values)) {
            ++wrong;
          }
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
    CHECK(wrong == 0);
    model->close();
    require_conserved(model->stats());
  }
}

TEST_CASE("a run in ONNX Runtime ends when its only member is cancelled") {
  if (!has_onnx_library()) return;
  const auto model =
      ModelVersion::load("loop", 1, {.path = model_path("add_repeatedly")}, ModelOptions{});
  std::vector<int64_t> count{1'000'000'000'000};
  std::vector<float> values(4);
  const auto make = [&] {
    RequestRef request = model->new_request();
    request->inputs[0] = view(DataType::kInt64, Shape{}, count);
    request->inputs[1] = view({1, 4}, values);
    return request;
  };
  for (int i = 0; i < 2; ++i) {
    const RequestRef endless = make();
    REQUIRE(model->submit(endless).ok());
    let_run();
    CHECK_FALSE(endless->cancel());
    endless->wait();
    CHECK_MESSAGE(endless->status.code() == ErrorCode::kCancelled, endless->status.to_string());
    const int64_t endless_count = std::exchange(count[0], 3);
    CHECK(model->infer(make()).ok());
    count[0] = endless_count;
  }
}

// --- results that are kept

TEST_CASE("a small result that is kept does not keep its batch's memory") {
  constexpr int64_t kColumns = 1024;  // 8 KiB a row: too large to be bound
  for (const Device device : test::a_device_of_each_kind()) {
    EchoSettings settings;
    settings.dims = {-1, kColumns};
    settings.batching.max_rows = 64;
    settings.batching.max_delay = 1s;
    settings.instances = {{device, 1}};
    const auto model = load_echo(settings);
    const auto rows_of = [&](int64_t rows, int64_t first) {
      std::vector<int64_t> values(static_cast<std::size_t>(rows * kColumns), first);
      return Numbers(std::move(values), Shape{rows, kColumns});
    };
    const auto serve = [&](const std::vector<int64_t>& sizes) {
      std::vector<Numbers> numbers;
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        numbers.push_back(rows_of(sizes[i], static_cast<int64_t>(i)));
      }
      std::vector<RequestRef> requests;
      for (Numbers& one : numbers) {
        requests.push_back(ask(*model, one));
        REQUIRE(model->submit(requests.back()).ok());
      }
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        requests[i]->wait();
        CHECK(requests[i]->timing.batch_rows == 64);
        CHECK(answer(*requests[i]) == numbers[i].values);
      }
      return requests;
    };
    const std::size_t before = model->pool_stats().used_bytes;
    const auto used = [&] { return model->pool_stats().used_bytes - before; };
    constexpr std::size_t kRow = kColumns * sizeof(int64_t);
    {
      std::vector<RequestRef> requests = serve(std::vector<int64_t>(64, 1));
      const RequestRef kept = requests[17];
      requests.clear();
      CHECK(comes_true([&] { return used() < 4 * kRow; }));
      CHECK(used() >= kRow);
      CHECK(answer(*kept) == rows_of(1, 17).values);
    }
    {
      // An eighth is a slice, which keeps all; less than that is a copy.
      std::vector<RequestRef> requests = serve({8, 7, 49});
      const Buffer eighth = requests[0]->outputs[0].buffer;
      const Buffer less = requests[1]->outputs[0].buffer;
      const Buffer most = requests[2]->outputs[0].buffer;
      CHECK(eighth.data() == most.data());
      CHECK(less.data() != most.data());
    }
    CHECK(comes_true([&] { return used() == 0; }));
  }
}

// --- faults of the device

TEST_CASE("a late device is waited for") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const Faults faults(faulty, {.delay = 2ms, .delay_jitter = 2ms});
    EchoSettings settings;
    settings.instances = {{faulty.device, 1}};
    const auto model = load_echo(settings);
    std::vector<Numbers> numbers;
    const std::vector<RequestRef> requests = submit(*model, numbers, 20);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      requests[i]->wait();
      REQUIRE(requests[i]->status.ok());
      CHECK(answer(*requests[i]) == numbers[i].values);
    }
    CHECK(model->stats().replaced == 0);
  });
}

TEST_CASE("a copy that fails fails nobody whose request can run again, and nobody else") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const uint64_t misuses = faulty.misuse_count();
    EchoSettings settings;
    settings.instances = {{faulty.device, 1}};
    const auto model = load_echo(settings);
    settings.instances = {{faulty.other(), 1}};
    const auto other = load_echo(settings, 2);
    // Whichever copy it is: of the inputs, of the run, of the outputs.
    for (int64_t after = 0; after < 8; ++after) {
      const Faults faults(faulty, {.delay = 100us, .fail_after = after});
      std::vector<Numbers> numbers;
      const std::vector<RequestRef> requests = submit(*model, numbers, 6);
      std::vector<Numbers> others;
      for (const RequestRef& request : submit(*other, others, 3)) {
        request->wait();
        CHECK(request->status.ok());
      }
      int failed = 0;
      for (std::size_t i = 0; i < requests.size(); ++i) {
        requests[i]->wait();
        if (requests[i]->status.ok()) {
          CHECK(answer(*requests[i]) == numbers[i].values);
        } else {
          CHECK(requests[i]->status.code() == ErrorCode::kEngineError);
          ++failed;
        }
      }
      CHECK(failed <= 1);
    }
    model->close();
    require_conserved(model->stats());
    CHECK(other->stats().failed == 0);
    CHECK(faulty.misuse_count() == misuses);
  });
}

TEST_CASE("a full device answers Overloaded, and serves again when there is room") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    constexpr int64_t kColumns = 16 * 1024;  // too large to be bound to memory of the instance
    EchoSettings settings;
    settings.dims = {-1, kColumns};
    settings.instances = {{faulty.device, 1}};
    const auto model = load_echo(settings);
    Numbers numbers(std::vector<int64_t>(kColumns, 3), Shape{1, kColumns});
    {
      const Faults faults(faulty, {.memory_bytes = 0});
      const RequestRef request = ask(*model, numbers);
      CHECK(model->infer(request).code() == ErrorCode::kOverloaded);
    }
    const RequestRef request = ask(*model, numbers);
    CHECK(model->infer(request).ok());
    CHECK(answer(*request) == numbers.values);
    CHECK(model->stats().failed == 1);
  });
}

namespace {

std::shared_ptr<ModelVersion> load_watched(Device device, std::chrono::nanoseconds stuck_after,
                                           const std::string& delay_us = "0") {
  ModelOptions options = load_slow(device, delay_us)->options();
  options.stuck_after = stuck_after;
  return ModelVersion::load("watched", 3, {}, options);
}

}  // namespace

TEST_CASE("an instance whose stream never completes is replaced, and its requests fail") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const uint64_t misuses = faulty.misuse_count();
    const uint64_t used = faulty.used_bytes();
    for (const bool blocks : {false, true}) {
      const auto model = load_watched(faulty.device, 300ms);
      EchoSettings settings;
      settings.instances = {{faulty.other(), 1}};
      const auto other = load_echo(settings);
      Numbers numbers = rows_of_four(1, 3);
      {
        const Faults faults(faulty, {.stall_after = 1});
        const RequestRef lost = ask(*model, numbers);
        if (blocks) {
          CHECK_FALSE(model->infer(lost).ok());
        } else {
          REQUIRE(model->submit(lost).ok());
        }
        // Others run on meanwhile.
        std::vector<Numbers> others;
        for (const RequestRef& request : submit(*other, others, 20)) {
          request->wait();
          CHECK(request->status.ok());
        }
        lost->wait();
        CHECK(lost->status.code() == ErrorCode::kEngineError);
        CHECK(lost->status.message() ==
              "instance 0 on " + faulty.device.name() + ": the run did not complete within 0.3 s");
        CHECK(lost->outputs[0].data == nullptr);

        // The new instance serves while the old one is still stuck.
        std::vector<Numbers> more;
        const std::vector<RequestRef> requests = submit(*model, more, 20);
        for (std::size_t i = 0; i < requests.size(); ++i) {
          requests[i]->wait();
          REQUIRE(requests[i]->status.ok());
          CHECK(answer(*requests[i]) == more[i].values);
        }
        CHECK(model->stats().replaced == 1);
        CHECK(model->stats().stuck == 0);
      }
      // Now the old one completes; nobody minds.
      const RequestRef request = ask(*model, numbers);
      CHECK(model->infer(request).ok());
      model->close();
      CHECK(model->stats().failed == 1);
      CHECK(model->stats().completed == 21);
      require_conserved(model->stats());
    }
    CHECK(faulty.misuse_count() == misuses);
    CHECK(comes_true([&] { return faulty.used_bytes() <= used + (std::size_t{1} << 20); }));
  });
}

TEST_CASE("a batch behind a lost one runs on the new instance") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const auto model = load_watched(faulty.device, 300ms);
    std::vector<Numbers> numbers;
    const Faults faults(faulty, {.stall_after = 1});
    const std::vector<RequestRef> requests = submit(*model, numbers, 4);
    requests[0]->wait();
    CHECK(requests[0]->status.code() == ErrorCode::kEngineError);
    for (std::size_t i = 1; i < requests.size(); ++i) {
      requests[i]->wait();
      REQUIRE_MESSAGE(requests[i]->status.ok(), requests[i]->status.to_string());
      CHECK(answer(*requests[i]) == numbers[i].values);
    }
    CHECK(model->stats().failed == 1);
  });
}

TEST_CASE("a stream that stalls again and again costs an instance each time") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const auto model = load_watched(faulty.device, 200ms);
    for (int i = 0; i < 4; ++i) {
      Numbers numbers = rows_of_four(1, i);
      {
        const Faults faults(faulty, {.stall_after = i % 3});
        const RequestRef lost = ask(*model, numbers);
        CHECK(model->infer(lost).code() == ErrorCode::kEngineError);
      }
      const RequestRef request = ask(*model, numbers);
      CHECK(model->infer(request).ok());
      CHECK(comes_true([&] { return model->stats().replaced == static_cast<uint64_t>(i) + 1; }));
    }
    model->close();
    require_conserved(model->stats());
  });
}

TEST_CASE("a model may go while its lost stream is still stuck") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const uint64_t misuses = faulty.misuse_count();
    {
      const Faults faults(faulty, {.stall_after = 1});
      auto model = load_watched(faulty.device, 20ms);
      Numbers numbers = rows_of_four(1, 3);
      RequestRef lost = ask(*model, numbers);
      CHECK(model->infer(lost).code() == ErrorCode::kEngineError);
      lost.reset();
      model.reset();
    }
    std::this_thread::sleep_for(20ms);  // what it left behind completes
    CHECK(faulty.misuse_count() == misuses);
  });
}

TEST_CASE("a lost run that was cancelled meanwhile is cancelled") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const Faults faults(faulty, {.stall_after = 1});
    const auto model = load_watched(faulty.device, 50ms);
    Numbers numbers = rows_of_four(1, 3);
    const RequestRef request = ask(*model, numbers);
    REQUIRE(model->submit(request).ok());
    let_run();
    request->cancel();
    request->wait();
    CHECK(request->status.code() == ErrorCode::kCancelled);
    model->close();
    require_conserved(model->stats());
  });
}

TEST_CASE("a run on the host that takes too long is reported while it runs, and completes") {
  const auto model = load_watched(Device{}, 20ms, "200000");
  CHECK(model->stats().stuck == 0);
  Numbers numbers = rows_of_four(1, 3);
  const RequestRef request = ask(*model, numbers);
  const auto begin = std::chrono::system_clock::now();
  REQUIRE(model->submit(request).ok());
  CHECK(comes_true([&] { return model->stats().stuck == 1; }));
  const auto since = std::chrono::milliseconds(model->stats().stuck_since_unix_ms);
  CHECK(since >= begin.time_since_epoch() - 5ms);
  CHECK(since <= begin.time_since_epoch() + 20s);
  request->wait();
  CHECK(request->status.ok());
  CHECK(comes_true([&] { return model->stats().stuck == 0; }));
  CHECK(model->stats().stuck_since_unix_ms == 0);
  CHECK(model->stats().replaced == 0);
}

TEST_CASE("a batch that waits behind a long one is not late") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const auto model = load_watched(faulty.device, 500ms, "300000");
    std::vector<Numbers> numbers;
    // Each run takes 300 ms, and the second is given to the stream while the first runs.
    for (const RequestRef& request : submit(*model, numbers, 3)) {
      request->wait();
      CHECK_MESSAGE(request->status.ok(), request->status.to_string());
    }
    CHECK(model->stats().replaced == 0);
  });
}

TEST_CASE(
    "an error that ends a GPU's context fails its requests by name, and the process goes on") {
  if (test::fake_driver() == nullptr) return;
  EchoSettings settings;
  settings.instances = {{Device{DeviceKind::kCuda, 1}, 2}};
  const auto model = load_echo(settings);
  const auto other = load_echo();
  test::fake_driver()->set_faults(1, {.delay_us = 100, .end_context_after = 3});
  std::vector<Numbers> numbers;
  int failed = 0;
  for (const RequestRef& request : submit(*model, numbers, 20)) {
    request->wait();
    if (request->status.ok()) continue;
    ++failed;
    CHECK(request->status.code() == ErrorCode::kEngineError);
    CHECK(request->status.message().find("CUDA_ERROR_ILLEGAL_ADDRESS") != std::string::npos);
  }
  CHECK(failed > 0);
  CHECK(model->stats().stuck == 0);
  Numbers one = rows_of_four(1, 3);
  CHECK(other->infer(ask(*other, one)).ok());
  model->close();
  require_conserved(model->stats());
  test::fake_driver()->set_faults(1, {});
}

}  // namespace pyruntime
