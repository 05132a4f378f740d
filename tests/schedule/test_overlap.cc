// Batches that are copied beside the runs of others: when, what is measured, and what faults do.
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "memory/faulty_devices.h"
#include "schedule/echo_model.h"
#include "schedule/overlap.h"

namespace pyruntime {
namespace {

using namespace std::chrono_literals;
using test::Faults;
using test::FaultyDevice;
using test::for_each_faulty_device;

constexpr std::size_t kKiB = 1024;
const std::vector<Shape> kTails{Shape{4}};

// Long beside what a busy machine holds a thread back.
constexpr auto kStuckAfter = 400ms;

// Too large to be bound to memory of the instance: it takes memory from the pools.
constexpr int64_t kLargeColumns = 16 * 1024;
Numbers large_row(int64_t value) {
  return {std::vector<int64_t>(kLargeColumns, value), Shape{1, kLargeColumns}};
}

OverlapTimes times(Nanoseconds none, Nanoseconds two, Nanoseconds three) {
  return {none, two, three};
}

// Rows of either size, so that both ways to memory are taken.
EchoSettings settings_on(Device device, Overlap overlap) {
  EchoSettings settings;
  if (overlap == Overlap::kTwo) settings.dims = {-1, kLargeColumns};
  settings.instances = {{device, 1}};
  settings.batching.max_rows = 2;
  settings.overlap = overlap;
  return settings;
}

std::vector<RequestRef> submit_all(ModelVersion& model, std::vector<Numbers>& numbers, int count) {
  const int64_t columns = model.signature().inputs[0].dims[1];
  for (int i = 0; i < count; ++i) {
    numbers.emplace_back(std::vector<int64_t>(static_cast<std::size_t>(columns), i),
                         Shape{1, columns});
  }
  std::vector<RequestRef> requests;
  for (Numbers& one : numbers) {
    requests.push_back(ask(model, one));
    REQUIRE(model.submit(requests.back()).ok());
  }
  return requests;
}

// How many failed; the others have their own rows.
int count_failed(const std::vector<RequestRef>& requests, const std::vector<Numbers>& numbers) {
  int failed = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i]->wait();
    if (requests[i]->status.ok()) {
      CHECK(answer(*requests[i]) == numbers[i].values);
    } else {
      ++failed;
    }
  }
  return failed;
}

void for_each_overlap(const std::function<void(const FaultyDevice&, Overlap)>& check) {
  for_each_faulty_device([&](const FaultyDevice& faulty) {
    const uint64_t misuses = faulty.misuse_count();
    for (const Overlap overlap : {Overlap::kTwo, Overlap::kThree}) {
      CAPTURE(kOverlapNames[static_cast<std::size_t>(overlap)]);
      check(faulty, overlap);
    }
    CHECK(faulty.misuse_count() == misuses);
  });
}

}  // namespace

// --- the choice

TEST_CASE("before it is measured, large payloads are copied beside runs and small ones are not") {
  const OverlapChoice choice(std::nullopt);
  CHECK(choice.of(0, 0) == Overlap::kNone);
  CHECK(choice.of(0, 64 * kKiB) == Overlap::kNone);
  CHECK(choice.of(0, 1024 * kKiB) == Overlap::kTwo);
  CHECK(choice.of(1000, 1024 * kKiB) == Overlap::kTwo);
  CHECK(choice.is_unknown(0, 64 * kKiB));
}

TEST_CASE("what was measured decides, for that shape") {
  OverlapChoice choice(std::nullopt);
  choice.record(3, kTails, 64 * kKiB, times(100us, 60us, 55us));
  CHECK(choice.of(3, 64 * kKiB) == Overlap::kThree);
  CHECK_FALSE(choice.is_unknown(3, 64 * kKiB));
  CHECK(choice.of(2, 64 * kKiB) == Overlap::kNone);
  CHECK(choice.is_unknown(2, 64 * kKiB));
  choice.record(3, kTails, 64 * kKiB, times(50us, 60us, 55us));
  CHECK(choice.of(3, 64 * kKiB) == Overlap::kNone);
  REQUIRE(choice.measured().size() == 1);
  CHECK(choice.measured()[0].payload_bytes == 64 * kKiB);
  CHECK(choice.measured()[0].times[0] == 50us);
  CHECK(choice.measured()[0].chosen == Overlap::kNone);
}

TEST_CASE("a gain within the scatter of a measurement is none") {
  OverlapChoice choice(std::nullopt);
  choice.record(0, kTails, kKiB, times(1000us, 985us, 984us));
  CHECK(choice.of(0, kKiB) == Overlap::kNone);
  choice.record(0, kTails, kKiB, times(1000us, 970us, 960us));
  CHECK(choice.of(0, kKiB) == Overlap::kTwo);
}

TEST_CASE("sizes that were not measured do as the nearest one") {
  OverlapChoice choice(std::nullopt);
  choice.record(0, kTails, 16 * kKiB, times(10us, 20us, 20us));
  choice.record(0, kTails, 16 * 1024 * kKiB, times(100us, 50us, 60us));
  CHECK(choice.of(0, 1) == Overlap::kNone);
  CHECK(choice.of(0, 256 * kKiB) == Overlap::kNone);
  CHECK(choice.of(0, 1024 * kKiB) == Overlap::kTwo);
  CHECK(choice.of(0, std::size_t{1} << 40U) == Overlap::kTwo);
  CHECK(choice.measured().size() == 2);
}

TEST_CASE("what is forced is never measured") {
  OverlapChoice choice(Overlap::kThree);
  CHECK_FALSE(choice.is_unknown(0, kKiB));
  choice.record(0, kTails, kKiB, times(1us, 2us, 2us));
  CHECK(choice.of(0, kKiB) == Overlap::kThree);
  CHECK(choice.measured().empty());
}

// --- on devices

TEST_CASE("batches that overlap are answered with their own rows, and counted") {
  for_each_overlap([](const FaultyDevice& faulty, Overlap overlap) {
    const Faults faults(faulty, {.delay = 200us, .delay_jitter = 1ms});
    const auto model = load_echo(settings_on(faulty.device, overlap));
    std::vector<Numbers> numbers;
    CHECK(count_failed(submit_all(*model, numbers, 30), numbers) == 0);
    model->close();
    CHECK(model->stats().overlapped == model->stats().batches);
    require_conserved(model->stats());
  });
}

TEST_CASE("three batches are in flight only where that is chosen") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    for (const Overlap overlap : {Overlap::kNone, Overlap::kTwo, Overlap::kThree}) {
      // None of the first batches' copies ends: what is taken out of the queue is in flight.
      EchoSettings settings = settings_on(faulty.device, overlap);
      settings.batching.max_rows = 1;
      settings.dims = {-1, kLargeColumns};
      const auto model = load_echo(settings);
      std::vector<Numbers> numbers;
      const auto used = [&] { return model->pool_stats().used_bytes; };
      std::vector<RequestRef> requests;
      {
        const Faults faults(faulty, {.stall_after = 0});
        for (int i = 0; i < 5; ++i) numbers.push_back(large_row(i));
        const std::size_t before = used();
        for (Numbers& one : numbers) {
          requests.push_back(ask(*model, one));
          REQUIRE(model->submit(requests.back()).ok());
        }
        // Inputs and outputs, on both sides.
        constexpr std::size_t kEach = 4 * kLargeColumns * sizeof(int64_t);
        const std::size_t expected = batches_in_flight(overlap) * kEach;
        for (int i = 0; i < 10'000 && used() - before < expected; ++i) {
          std::this_thread::sleep_for(1ms);
        }
        CHECK(used() - before >= expected);
        std::this_thread::sleep_for(20ms);  // for more, were it to be taken
        CHECK(used() - before < expected + kEach);
      }
      CHECK(count_failed(requests, numbers) == 0);
    }
  });
}

TEST_CASE("whichever copy fails, at most its own request does") {
  for_each_overlap([](const FaultyDevice& faulty, Overlap overlap) {
    const auto model = load_echo(settings_on(faulty.device, overlap));
    for (int64_t after = 0; after < 10; ++after) {
      const Faults faults(faulty, {.delay = 100us, .fail_after = after});
      std::vector<Numbers> numbers;
      CHECK(count_failed(submit_all(*model, numbers, 6), numbers) <= 1);
    }
    model->close();
    require_conserved(model->stats());
  });
}

TEST_CASE("whichever call the driver refuses, at most its own batch's requests fail") {
  const fake_cuda::Control* const driver = test::fake_driver();
  if (driver == nullptr) return;
  const uint64_t misuses = driver->misuse_count();
  for (const Overlap overlap : {Overlap::kTwo, Overlap::kThree}) {
    const auto model = load_echo(settings_on({DeviceKind::kCuda, 0}, overlap));
    for (const char* const call : {"cuStreamWaitEvent", "cuEventRecord", "cuMemcpyHtoDAsync_v2",
                                   "cuMemcpyDtoDAsync_v2", "cuMemcpyDtoHAsync_v2"}) {
      CAPTURE(call);
      driver->fail_next(call, 304);
      std::vector<Numbers> numbers;
      CHECK(count_failed(submit_all(*model, numbers, 6), numbers) <= 1);
    }
    model->close();
    require_conserved(model->stats());
  }
  CHECK(driver->misuse_count() == misuses);
}

TEST_CASE("a full device refuses what overlaps, and serves again when there is room") {
  for_each_overlap([](const FaultyDevice& faulty, Overlap overlap) {
    EchoSettings settings = settings_on(faulty.device, overlap);
    settings.dims = {-1, kLargeColumns};
    const auto model = load_echo(settings);
    Numbers numbers = large_row(3);
    {
      const Faults faults(faulty, {.memory_bytes = 0});
      for (int i = 0; i < 4; ++i) {
        CHECK(model->infer(ask(*model, numbers)).code() == ErrorCode::kOverloaded);
      }
    }
    for (int i = 0; i < 4; ++i) {
      const RequestRef request = ask(*model, numbers);
      CHECK(model->infer(request).ok());
      CHECK(answer(*request) == numbers.values);
    }
    model->close();
    require_conserved(model->stats());
  });
}

TEST_CASE("whichever copy never ends, the instance is replaced and the rest are served") {
  for_each_overlap([](const FaultyDevice& faulty, Overlap overlap) {
    // A copy to the device or back; the run's, or that of the next batch.
    const bool is_two = overlap == Overlap::kTwo;
    for (const int64_t after : {is_two ? 0 : 1, is_two ? 2 : 4}) {
      CAPTURE(after);
      EchoSettings settings = settings_on(faulty.device, overlap);
      settings.stuck_after = kStuckAfter;
      const auto model = load_echo(settings);
      {
        const Faults faults(faulty, {.stall_after = after});
        std::vector<Numbers> numbers;
        CHECK(count_failed(submit_all(*model, numbers, 8), numbers) <= 2);
        for (int i = 0; i < 10'000 && model->stats().replaced == 0; ++i) {
          std::this_thread::sleep_for(1ms);
        }
        CHECK(model->stats().replaced >= 1);
        CHECK(model->stats().stuck == 0);
      }
      model->close();
      require_conserved(model->stats());
    }
  });
}

TEST_CASE("requests that are cancelled while their batches overlap end once") {
  for_each_overlap([](const FaultyDevice& faulty, Overlap overlap) {
    const Faults faults(faulty, {.delay = 100us, .delay_jitter = 500us});
    EchoSettings settings = settings_on(faulty.device, overlap);
    settings.config = {{"echo.delay_us", "300"}};
    const auto model = load_echo(settings);
    for (int round = 0; round < 5; ++round) {
      std::vector<Numbers> numbers;
      const std::vector<RequestRef> requests = submit_all(*model, numbers, 20);
      for (std::size_t i = 0; i < requests.size(); i += 2) requests[i]->cancel();
      for (std::size_t i = 0; i < requests.size(); ++i) {
        requests[i]->wait();
        if (requests[i]->status.ok()) {
          CHECK(answer(*requests[i]) == numbers[i].values);
        } else {
          CHECK(i % 2 == 0);
          CHECK(requests[i]->status.code() == ErrorCode::kCancelled);
        }
      }
    }
    model->close();
    require_conserved(model->stats());
  });
}

TEST_CASE("a model that is unloaded while batches overlap answers them first, and leaves nothing") {
  for_each_overlap([](const FaultyDevice& faulty, Overlap overlap) {
    const uint64_t used = faulty.used_bytes();
    const Faults faults(faulty, {.delay = 300us, .delay_jitter = 300us});
    EchoSettings settings = settings_on(faulty.device, overlap);
    settings.instances = {{faulty.device, 2}};
    auto model = load_echo(settings);
    std::vector<Numbers> numbers;
    std::vector<RequestRef> requests = submit_all(*model, numbers, 20);
    model->close();
    require_conserved(model->stats());
    CHECK(count_failed(requests, numbers) == 0);
    requests.clear();
    model.reset();
    CHECK(faulty.used_bytes() == used);
  });
}

// --- what warm-up measures

TEST_CASE("warm-up times all ways and keeps the fastest, which traffic then takes") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const uint64_t misuses = faulty.misuse_count();
    const Faults faults(faulty, {.delay = 500us});
    EchoSettings settings;
    settings.instances = {{faulty.device, 2}};
    const auto model = load_echo(settings);
    REQUIRE(model->warm_up(2, 2).ok());
    const std::vector<DeviceOverlap> overlaps = model->overlaps();
    REQUIRE(overlaps.size() == 1);  // once for all instances on the device
    CHECK(overlaps[0].device == faulty.device);
    const OverlapChoice::Measured& measured = overlaps[0].measured;
    CHECK(measured.payload_bytes == 128);  // 2 rows of 4 int64, there and back
    CHECK(measured.tails == kTails);
    for (const Nanoseconds time : measured.times) CHECK(time >= 500us);  // no stage takes less
    CHECK(model->stats().accepted == 0);
    CHECK(model->stats().batches == 0);

    Numbers numbers = rows_of_four(2, 7);
    const RequestRef request = ask(*model, numbers);
    REQUIRE(model->infer(request).ok());
    CHECK(answer(*request) == numbers.values);
    model->close();
    CHECK(model->stats().overlapped == (measured.chosen == Overlap::kNone ? 0 : 1));
    require_conserved(model->stats());
    CHECK(faulty.misuse_count() == misuses);
  });
}

TEST_CASE("each size is measured by itself, and none where the way is given") {
  const auto model = load_echo({.instances = {{Device{DeviceKind::kSimulated, 0}, 1}}});
  REQUIRE(model->warm_up(1, 3).ok());
  REQUIRE(model->warm_up(32, 3).ok());
  CHECK(model->overlaps().size() == 2);
  const auto forced = load_echo(settings_on({DeviceKind::kSimulated, 0}, Overlap::kTwo));
  REQUIRE(forced->warm_up(1, 3).ok());
  CHECK(forced->overlaps().empty());
  const auto on_host = load_echo();
  REQUIRE(on_host->warm_up(1, 3).ok());
  CHECK(on_host->overlaps().empty());
}

TEST_CASE("a device that fails or stalls while it is measured is measured when it has recovered") {
  for_each_faulty_device([](const FaultyDevice& faulty) {
    const uint64_t misuses = faulty.misuse_count();
    for (const int64_t after : {0, 4, 11}) {
      EchoSettings settings;
      settings.instances = {{faulty.device, 1}};
      settings.stuck_after = kStuckAfter;
      const auto model = load_echo(settings);
      {
        const Faults faults(faulty, {.fail_after = after});
        (void)model->warm_up(1, 1);
        CHECK(model->overlaps().empty());
      }
      {
        const Faults faults(faulty, {.stall_after = after});
        CHECK(model->warm_up(1, 1).ok());  // on the instance that replaced the stuck one
        CHECK(model->overlaps().empty());
        CHECK(model->stats().replaced == 1);
      }
      CHECK(model->warm_up(1, 1).ok());
      CHECK(model->overlaps().size() == 1);
      model->close();
      require_conserved(model->stats());
    }
    CHECK(faulty.misuse_count() == misuses);
  });
}

TEST_CASE("a model whose requests fail is not measured") {
  EchoSettings settings;
  settings.instances = {{Device{DeviceKind::kSimulated, 0}, 1}};
  settings.config = {{"echo.fail_value", "0"}};  // of warm-up's rows
  const auto model = load_echo(settings);
  CHECK_FALSE(model->warm_up(1, 2).ok());
  CHECK(model->overlaps().empty());
}

}  // namespace pyruntime
