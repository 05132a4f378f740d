#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "schedule/echo_model.h"
#include "serving/registry.h"

namespace pyruntime {
namespace {

RouteSpec split(std::vector<ArmSpec> arms, std::string name = {}) {
  RouteSpec spec;
  spec.policy = "split";
  spec.name = std::move(name);
  spec.arms = std::move(arms);
  return spec;
}

int64_t version_for(const Registry& registry, const RouteQuery& query) {
  Decision decision;
  const Status found = registry.route("echo", query, &decision);
  CHECK_MESSAGE(found.ok(), found.message());
  return found.ok() ? decision.model->version() : 0;
}

std::string error_for(const Registry& registry, const RouteQuery& query) {
  Decision decision;
  const Status found = registry.route("echo", query, &decision);
  CHECK(decision.model == nullptr);
  return found.message();
}

Status infer(Registry& registry, const RouteQuery& query, std::string_view id = {},
             int64_t rows = 1) {
  Decision decision;
  if (Status found = registry.route("echo", query, &decision); !found.ok()) return found;
  Numbers numbers = rows_of_four(rows, decision.model->version());
  const RequestRef request = ask(*decision.model, numbers);
  decision.watch(*request, id);
  Status status = decision.model->infer(request);
  decision.end(status, *request);
  return status;
}

}  // namespace

TEST_CASE("a label leads to its version, from its move on to another") {
  Registry registry;
  for (const int64_t version : {1, 2, 3}) registry.add(load_echo({}, version));
  registry.set_routing("echo", {{"stable", 1}, {"canary", 2}}, nullptr, {});
  CHECK(version_for(registry, {.label = "stable"}) == 1);
  CHECK(version_for(registry, {.label = "canary"}) == 2);
  CHECK(version_for(registry, {}) == 3);
  registry.set_routing("echo", {{"stable", 2}}, nullptr, {});
  CHECK(version_for(registry, {.label = "stable"}) == 2);
  CHECK(error_for(registry, {.label = "canary"}) ==
        "model 'echo' has no label 'canary'; it has 'stable' (version 2)");
}

TEST_CASE("a label is not moved to a version that is not loaded, and nothing else is changed") {
  Registry registry;
  registry.add(load_echo({}, 1));
  const std::array<int64_t, 2> needed{1, 7};
  registry.set_routing("echo", {{"stable", 1}}, nullptr, {});
  CHECK_THROWS_AS(registry.set_routing("echo", {{"stable", 7}}, nullptr, needed), Error);
  CHECK(version_for(registry, {.label = "stable"}) == 1);
}

TEST_CASE("labels and routes outlive the versions that they name") {
  Registry registry;
  registry.add(load_echo({}, 1));
  RouteSpec spec;
  spec.arms[0].target.label = "stable";
  registry.set_routing("echo", {{"stable", 1}}, &spec, {});
  registry.add(load_echo({}, 2));
  CHECK(version_for(registry, {}) == 1);
  registry.remove("echo", 1);
  CHECK(error_for(registry, {}) ==
        "model 'echo' has no version 1, which label 'stable' names; loaded: 2");
  registry.remove("echo", 2);
  CHECK(error_for(registry, {}) == "model 'echo' is not loaded");
  registry.add(load_echo({}, 1));
  CHECK(version_for(registry, {}) == 1);
}

TEST_CASE("a split counts what each arm answers, and a missing arm's share is the first's") {
  Registry registry;
  registry.add(load_echo({}, 1));
  registry.add(load_echo({}, 2));
  const RouteSpec spec = split({{"old", {1, {}}, 500}, {"new", {2, {}}, 500}});
  registry.set_routing("echo", {}, &spec, {});
  for (int i = 0; i < 100; ++i) CHECK(infer(registry, {}).ok());
  CHECK(infer(registry, {.version = 2}).ok());  // by number: not the route's
  TrafficStatsSnapshot stats = registry.traffic("echo")->stats();
  CHECK(stats.arms[0].completed + stats.arms[1].completed == 100);
  CHECK(stats.arms[1].completed > 10);
  registry.remove("echo", 2);
  for (int i = 0; i < 100; ++i) CHECK(infer(registry, {}).ok());
  const uint64_t new_before = stats.arms[1].completed;
  stats = registry.traffic("echo")->stats();
  CHECK(stats.arms[1].completed == new_before);
  CHECK(stats.fallbacks > 10);
}

TEST_CASE("a refused request is counted as refused, a failed one as failed") {
  Registry registry;
  EchoSettings settings;
  settings.config = {{"echo.fail_value", "1"}};
  registry.add(load_echo(settings, 1));  // its requests begin with its version
  const RouteSpec spec = split({{"all", {1, {}}, 1000}});
  registry.set_routing("echo", {}, &spec, {});
  CHECK(infer(registry, {}).code() == ErrorCode::kEngineError);
  Decision decision;
  REQUIRE(registry.route("echo", {}, &decision).ok());
  const RequestRef request = decision.model->new_request();  // without inputs
  decision.watch(*request);
  const Status status = decision.model->submit(request);
  decision.end(status, *request);
  CHECK(status.code() == ErrorCode::kInvalidInput);
  const ArmStatsSnapshot stats = registry.traffic("echo")->stats().arms[0];
  CHECK(stats.assigned == 2);
  CHECK(stats.failed == 1);
  CHECK(stats.refused == 1);
}

TEST_CASE("an experiment goes on when its shares change, and begins anew under another name") {
  Registry registry;
  registry.add(load_echo({}, 1));
  registry.add(load_echo({}, 2));
  const auto set = [&](const RouteSpec& spec) { registry.set_routing("echo", {}, &spec, {}); };
  const auto assigned = [&] {
    const TrafficStatsSnapshot stats = registry.traffic("echo")->stats();
    return stats.arms[0].assigned + stats.arms[1].assigned;
  };
  set(split({{"a", {1, {}}, 500}, {"b", {2, {}}, 500}}, "first"));
  for (int i = 0; i < 10; ++i) CHECK(infer(registry, {}).ok());
  set(split({{"a", {1, {}}, 900}, {"b", {2, {}}, 100}}, "first"));
  CHECK(assigned() == 10);
  set(split({{"a", {1, {}}, 900}, {"b", {2, {}}, 100}}, "second"));
  CHECK(assigned() == 0);
}

TEST_CASE("a reward goes to the arm that answered, once") {
  Registry registry;
  registry.add(load_echo({}, 1));
  registry.add(load_echo({}, 2));
  const RouteSpec spec = split({{"a", {1, {}}, 0}, {"b", {2, {}}, 1000}}, "test");
  registry.set_routing("echo", {}, &spec, {});
  CHECK(infer(registry, {}, "first").ok());
  const auto traffic = registry.traffic("echo");
  CHECK(traffic->give_reward("first", 0.5).ok());
  CHECK(traffic->give_reward("first", 0.5).code() == ErrorCode::kModelNotFound);
  CHECK(traffic->give_reward("never", 0.5).code() == ErrorCode::kModelNotFound);
  CHECK(traffic->give_reward("first", 1.5).code() == ErrorCode::kInvalidInput);
  const TrafficStatsSnapshot stats = traffic->stats();
  CHECK(stats.arms[1].rewards == 1);
  CHECK(stats.arms[1].reward_sum == 0.5);
  CHECK(stats.unmatched_rewards == 2);
}

TEST_CASE("an experiment takes up what was counted of its arms before, and nothing else") {
  Registry registry;
  registry.add(load_echo({}, 1));
  registry.add(load_echo({}, 2));
  const RouteSpec spec = split({{"a", {1, {}}, 0}, {"b", {2, {}}, 1000}}, "test");
  registry.set_routing("echo", {}, &spec, {});
  CHECK(infer(registry, {}).ok());
  const auto traffic = registry.traffic("echo");
  ArmStatsSnapshot before;
  before.completed = 10;
  before.failed = 2;
  before.rewards = 4;
  before.reward_sum = 2.5;
  CHECK_FALSE(traffic->restore("other", {{"a", before}, {"b", before}}));
  CHECK_FALSE(traffic->restore("test", {{"a", before}}));
  CHECK_FALSE(traffic->restore("test", {{"a", before}, {"c", before}}));
  CHECK(traffic->stats().arms[0].assigned == 0);
  CHECK(traffic->restore("test", {{"a", {}}, {"b", before}}));
  const ArmStatsSnapshot after = traffic->stats().arms[1];
  CHECK(after.assigned == 13);
  CHECK(after.completed == 11);
  CHECK(after.failed == 2);
  CHECK(after.rewards == 4);
  CHECK(after.reward_sum == 2.5);
}

TEST_CASE("the last assignments are known, older ones are forgotten") {
  RecentAssignments recent;
  constexpr int kMany = 200'000;
  for (int i = 0; i < kMany; ++i) recent.note(std::to_string(i), static_cast<std::size_t>(i) % 3);
  int known = 0;
  for (int i = kMany - 10'000; i < kMany; ++i) {
    const auto arm = recent.take(std::to_string(i));
    if (!arm) continue;
    ++known;
    CHECK(*arm == static_cast<std::size_t>(i) % 3);
  }
  CHECK(known > 9'500);  // sets of four are not filled evenly
  CHECK(!recent.take("0"));
}

TEST_CASE("routes change under traffic, and every request is answered and counted") {
  Registry registry;
  for (const int64_t version : {1, 2, 3}) registry.add(load_echo({}, version));
  std::vector<RouteSpec> specs;
  specs.push_back(split({{"a", {kLatest, "stable"}, 900}, {"b", {2, {}}, 100}}, "same"));
  specs.push_back(split({{"a", {kLatest, "stable"}, 500}, {"b", {3, {}}, 500}}, "same"));
  specs.push_back(specs[0]);
  specs.back().policy = "thompson";
  registry.set_routing("echo", {{"stable", 1}}, &specs[0], {});
  const auto traffic = registry.traffic("echo");  // its counts are those of all
  std::atomic<bool> over{false};
  std::atomic<uint64_t> answered{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&, i] {
      uint64_t n = 0;
      while (!over.load(std::memory_order_relaxed)) {
        const std::string id = std::to_string(i) + "-" + std::to_string(n++);
        if (infer(registry, {.key = n % 2 == 0 ? std::string_view(id) : ""}, id).ok()) {
          ++answered;
          if (!traffic->give_reward(id, 1).ok()) ++wrong;
        } else {
          ++wrong;
        }
      }
    });
  }
  for (int i = 0; i < 300; ++i) {
    registry.set_routing("echo", {{"stable", 1 + i % 2}}, &specs[i % specs.size()], {});
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  over = true;
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
  uint64_t completed = 0;
  uint64_t rewards = 0;
  for (const ArmStatsSnapshot& arm : traffic->stats().arms) {
    CHECK(arm.assigned == arm.completed);
    completed += arm.completed;
    rewards += arm.rewards;
  }
  CHECK(completed == answered);
  CHECK(rewards == answered);
}

}  // namespace pyruntime
