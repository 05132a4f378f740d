#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "memory/device.h"
#include "schedule/echo_model.h"
#include "schedule/fair_share.h"
#include "serving/registry.h"

namespace pyruntime {
namespace {

using namespace std::chrono_literals;

// Version 1 answers, version 2 is its shadow.
RouteSpec shadowed(int share = kWhole) {
  RouteSpec spec;
  spec.arms = {{"primary", {1, {}}, kWhole}};
  ShadowSpec& shadow = spec.shadow.emplace();
  shadow.target.version = 2;
  shadow.share = share;
  return spec;
}

Status infer(Registry& registry, int64_t first = 0, bool is_async = false) {
  Decision decision;
  if (Status found = registry.route("echo", {}, &decision); !found.ok()) return found;
  CHECK(decision.model->version() == 1);
  Numbers numbers = rows_of_four(1, first);
  const RequestRef request = ask(*decision.model, numbers);
  decision.watch(*request);
  Status status;
  if (is_async) {
    status = decision.model->submit(request);
    if (status.ok()) {
      request->wait();
      status = request->status;
    }
  } else {
    status = decision.model->infer(request);
  }
  decision.end(status, *request);
  if (status.ok()) CHECK(answer(*request)[0] == first);
  std::memset(numbers.values.data(), 0xEE, numbers.values.size() * sizeof(int64_t));
  return status;
}

ShadowStatsSnapshot stats_of(const Registry& registry) {
  return registry.traffic("echo")->shadow()->stats();
}

uint64_t ended(const ShadowStatsSnapshot& stats) {
  return stats.dropped + stats.skipped + stats.failed + stats.matched + stats.mismatched;
}

// Once nothing is under way.
ShadowStatsSnapshot settled(const Registry& registry) {
  for (;;) {
    const ShadowStatsSnapshot stats = stats_of(registry);
    CHECK(ended(stats) <= stats.sampled);
    if (ended(stats) == stats.sampled) return stats;
    std::this_thread::sleep_for(1ms);
  }
}

}  // namespace

TEST_CASE("a shadow gets what the request was, though its memory is another's by then") {
  for (const bool is_async : {false, true}) {
    Registry registry;
    registry.add(load_echo({}, 1));
    registry.add(load_echo({}, 2));
    const RouteSpec spec = shadowed();
    registry.set_routing("echo", {}, &spec, {});
    for (int i = 0; i < 20; ++i) CHECK(infer(registry, i, is_async).ok());
    const ShadowStatsSnapshot stats = settled(registry);
    CHECK(stats.sampled == 20);
    CHECK(stats.matched == 20);
    REQUIRE(stats.outputs.size() == 1);
    CHECK(stats.outputs[0].name == "output_0");
    CHECK(stats.outputs[0].max_absolute == 0);
    CHECK(stats.total.count == 20);
    std::shared_ptr<ModelVersion> shadow;
    REQUIRE(registry.find("echo", 2, &shadow).ok());
    CHECK(shadow->stats().completed == 20);
  }
}

TEST_CASE("a shadow gets its share of the requests") {
  Registry registry;
  registry.add(load_echo({}, 1));
  registry.add(load_echo({}, 2));
  thread_random() = Random(11);
  const RouteSpec spec = shadowed(100);
  registry.set_routing("echo", {}, &spec, {});
  for (int i = 0; i < 2000; ++i) CHECK(infer(registry).ok());
  const uint64_t sampled = settled(registry).sampled;
  CHECK(sampled > 155);
  CHECK(sampled < 245);
}

TEST_CASE("a shadow's failure is counted, and nobody else hears of it") {
  Registry registry;
  EchoSettings faulty;
  faulty.config = {{"echo.fail_value", "7"}};
  registry.add(load_echo({}, 1));
  registry.add(load_echo(faulty, 2));
  const RouteSpec spec = shadowed();
  registry.set_routing("echo", {}, &spec, {});
  CHECK(infer(registry, 7).ok());
  CHECK(infer(registry, 100).ok());
  const ShadowStatsSnapshot stats = settled(registry);
  CHECK(stats.failed == 1);
  CHECK(stats.matched == 1);
  CHECK(stats.last_problem.find("echo.fail_value") != std::string::npos);
}

TEST_CASE("what has no answer to compare with is skipped") {
  Registry registry;
  EchoSettings faulty;
  faulty.config = {{"echo.fail_value", "7"}};
  registry.add(load_echo(faulty, 1));
  registry.add(load_echo({}, 2));
  const RouteSpec spec = shadowed();
  registry.set_routing("echo", {}, &spec, {});
  CHECK(infer(registry, 7).code() == ErrorCode::kEngineError);
  std::shared_ptr<ModelVersion> primary;
  REQUIRE(registry.find("echo", 1, &primary).ok());
  primary->stop_accepting();
  CHECK(infer(registry, 1).code() == ErrorCode::kUnavailable);
  const ShadowStatsSnapshot stats = settled(registry);
  CHECK(stats.skipped == 2);
  CHECK(stats.sampled == 2);
}

TEST_CASE("a request that lacks an input of the shadow is dropped") {
  Registry registry;
  EchoSettings two;
  two.inputs = {"input", "more"};
  registry.add(load_echo({}, 1));
  registry.add(load_echo(two, 2));
  const RouteSpec spec = shadowed();
  registry.set_routing("echo", {}, &spec, {});
  CHECK(infer(registry).ok());
  CHECK(settled(registry).dropped == 1);
}

TEST_CASE("a request that will be refused is not looked into") {
  Registry registry;
  registry.add(load_echo({}, 1));
  registry.add(load_echo({}, 2));
  const RouteSpec spec = shadowed();
  registry.set_routing("echo", {}, &spec, {});
  for (const Shape& shape : {Shape{int64_t{1} << 40, 4}, Shape{-1, 4}}) {
    Decision decision;
    REQUIRE(registry.route("echo", {}, &decision).ok());
    Numbers numbers({1, 2, 3, 4}, shape);  // says that it is larger than it is, or nothing
    const RequestRef request = ask(*decision.model, numbers);
    if (shape[0] > 0) request->inputs[0].type = DataType::kFloat32;
    decision.watch(*request);
    const Status status = decision.model->infer(request);
    decision.end(status, *request);
    CHECK(status.code() == ErrorCode::kInvalidInput);
  }
  CHECK(stats_of(registry).sampled == 0);
}

TEST_CASE("under load copies are dropped, and the primary waits for none") {
  Registry registry;
  EchoSettings slow;
  slow.config = {{"echo.delay_us", "20000"}};
  slow.batching.max_rows = 1;
  registry.add(load_echo({}, 1));
  registry.add(load_echo(slow, 2));
  const RouteSpec spec = shadowed();
  registry.set_routing("echo", {}, &spec, {});
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) CHECK(infer(registry, i).ok());
  const auto took = std::chrono::steady_clock::now() - begin;
  const ShadowStatsSnapshot stats = stats_of(registry);
  CHECK(stats.sampled == 1000);
  CHECK(stats.dropped >= 1000 - ShadowRunner::kJobs - 1 - static_cast<uint64_t>(took / 20ms));
  registry.set_routing("echo", {}, nullptr, {});
}

TEST_CASE("a shadow takes no turns from the models that answer") {
  FairShare::Member witness(FairShare::of(open_device(Device{})), 1, SteadyClock::instance());
  Registry registry;
  registry.add(load_echo({}, 1));
  registry.add(load_echo({}, 2));
  const RouteSpec spec = shadowed();
  registry.set_routing("echo", {}, &spec, {});
  // Both may be active for a second from their loading on.
  const auto limit = std::chrono::steady_clock::now() + 10s;
  do {
    CHECK(infer(registry).ok());
    CHECK(settled(registry).dropped == 0);
    std::this_thread::sleep_for(20ms);
  } while (witness.has_company() && std::chrono::steady_clock::now() < limit);
  CHECK(infer(registry).ok());
  CHECK(settled(registry).matched >= 2);
  CHECK(!witness.has_company());  // the primary is active, nobody beside it
}

TEST_CASE("a shadow that groups requests runs a copy at once, on the idle thread") {
  Registry registry;
  EchoSettings patient;
  patient.batching.max_delay = 30s;
  registry.add(load_echo({}, 1));
  registry.add(load_echo(patient, 2));
  const RouteSpec spec = shadowed();
  registry.set_routing("echo", {}, &spec, {});
  const auto begin = std::chrono::steady_clock::now();
  CHECK(infer(registry).ok());
  CHECK(settled(registry).matched == 1);
  CHECK(std::chrono::steady_clock::now() - begin < 20s);
}

TEST_CASE("a shadow on a device takes its turns there, and answers") {
  Registry registry;
  EchoSettings device;
  device.instances = {{Device{DeviceKind::kSimulated, 0}, 1}};
  registry.add(load_echo({}, 1));
  registry.add(load_echo(device, 2));
  const RouteSpec spec = shadowed();
  registry.set_routing("echo", {}, &spec, {});
  for (int i = 0; i < 20; ++i) CHECK(infer(registry, i).ok());
  CHECK(settled(registry).matched == 20);
}

TEST_CASE("a shadow that is unloaded or replaced loses its copies, and memory") {
  Registry registry;
  EchoSettings slow;
  slow.config = {{"echo.delay_us", "1000"}};
  registry.add(load_echo({}, 1));
  registry.add(load_echo(slow, 2));
  const RouteSpec spec = shadowed();
  registry.set_routing("echo", {}, &spec, {});
  for (int i = 0; i < 30; ++i) CHECK(infer(registry, i).ok());
  std::weak_ptr<ModelVersion> gone;
  {
    const auto removed = registry.remove("echo", 2);
    removed->close();
    gone = removed;
  }
  for (int i = 0; i < 30; ++i) CHECK(infer(registry, i).ok());
  CHECK(settled(registry).sampled == 30);  // none while it is away
  while (!gone.expired()) std::this_thread::sleep_for(1ms);
  registry.add(load_echo({}, 2));
  CHECK(infer(registry, 1).ok());
  CHECK(settled(registry).sampled == 31);
}

TEST_CASE("a shadow that also answers is asked beside that, and not about itself") {
  Registry registry;
  registry.add(load_echo({}, 1));
  registry.add(load_echo({}, 2));
  RouteSpec spec = shadowed();
  spec.policy = "split";
  spec.arms = {{"a", {1, {}}, 500}, {"b", {2, {}}, 500}};
  registry.set_routing("echo", {}, &spec, {});
  for (int i = 0; i < 200; ++i) {
    Decision decision;
    REQUIRE(registry.route("echo", {}, &decision).ok());
    Numbers numbers = rows_of_four(1, i);
    const RequestRef request = ask(*decision.model, numbers);
    decision.watch(*request);
    REQUIRE(decision.model->infer(request).ok());
  }
  const ShadowStatsSnapshot stats = settled(registry);
  CHECK(stats.sampled == registry.traffic("echo")->stats().arms[0].assigned);
  CHECK(stats.mismatched + stats.failed == 0);
}

TEST_CASE("shadows come and go under traffic, and every copy is accounted for") {
  Registry registry;
  registry.add(load_echo({}, 1));
  registry.add(load_echo({}, 2));
  const RouteSpec with = shadowed();
  RouteSpec without = with;
  without.shadow.reset();
  registry.set_routing("echo", {}, &with, {});
  std::vector<std::shared_ptr<Traffic>> routes{registry.traffic("echo")};
  std::atomic<bool> over{false};
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&, i] {
      for (int64_t n = 0; !over.load(std::memory_order_relaxed); ++n) {
        CHECK(infer(registry, n * 10, i == 0).ok());
      }
    });
  }
  for (int i = 0; i < 60; ++i) {
    registry.set_routing("echo", {}, i % 2 == 0 ? &without : &with, {});
    if (i % 2 == 1) routes.push_back(registry.traffic("echo"));
    if (i % 10 == 9) registry.exchange(load_echo({}, 2))->close();
    std::this_thread::sleep_for(1ms);
  }
  over = true;
  for (std::thread& caller : callers) caller.join();
  registry.set_routing("echo", {}, nullptr, {});
  for (const auto& traffic : routes) {
    while (ended(traffic->shadow()->stats()) != traffic->shadow()->stats().sampled) {
      std::this_thread::sleep_for(1ms);
    }
    CHECK(traffic->shadow()->stats().mismatched == 0);
    CHECK(traffic->shadow()->stats().failed == 0);
  }
}

}  // namespace pyruntime
