// What finding a version costs, and what a shadow does to its primary's callers.
//
// Usage text below. Lookups are timed in batches; the calls with and without a
// shadow take turns, so that the machine's moods hit both.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "figures.h"
#include "program.h"
#include "served_model.h"
#include "serving/registry.h"

namespace {

using namespace pyruntime;
using namespace pyruntime::bench;

constexpr const char* kUsage =
    "bench_routing [--model NAME|PATH] [--callers 1] [--instances 1] [--gap-us 0]\n"
    "              [--copied 1000] [--seconds 0.05] [--turns 60]\n"
    "\n"
    "model: called, with another version of it as its shadow; the MLP unless given.\n"
    "callers: that call at once and wait, each with the gap after every answer.\n"
    "instances: of each version.\n"
    "copied: of the requests, in thousandths.\n"
    "seconds: with and without the shadow in one turn.\n"
    "Prints two tables in Markdown and a line of JSON.\n";

constexpr int kLookups = 1000;
constexpr int kBatches = 300;

struct Settings {
  std::string model;
  int callers;
  int instances;
  std::chrono::microseconds gap;
  int copied;
  Nanoseconds length;
  int turns;
};

RouteSpec spec_of(const std::string& policy) {
  RouteSpec spec;
  spec.policy = policy;
  spec.arms = {{"one", {1, {}}, 900}, {"two", {2, {}}, 100}};
  return spec;
}

// Nanoseconds of a lookup, the median of batches.
template <typename Lookup>
double time_lookup(Lookup&& lookup) {
  std::vector<double> batches;
  for (int batch = 0; batch < kBatches; ++batch) {
    const auto begin = SteadyTime::now();
    for (int i = 0; i < kLookups; ++i) lookup();
    batches.push_back(seconds_since(begin) * 1e9 / kLookups);
  }
  return median(batches);
}

double time_route(const Registry& registry, const std::string& name, const RouteQuery& query) {
  Decision decision;
  return time_lookup([&] { registry.route(name, query, &decision).throw_if_failed(); });
}

void measure_lookups(Registry& registry, const std::string& name, std::string* json) {
  std::printf("| lookup | ns | to `find` |\n|---|---|---|\n");
  registry.set_routing(name, {{"stable", 1}}, nullptr, {});
  std::shared_ptr<ModelVersion> model;
  const double find = time_lookup([&] { registry.find(name, kLatest, &model).throw_if_failed(); });
  const auto print = [&](const char* what, double ns) {
    std::printf("| %s | %.0f | %.2f |\n", what, ns, ns / find);
    *json += (json->empty() ? "\"" : ", \"") + std::string(what) + "_ns\": " + std::to_string(ns);
  };
  print("find", find);
  print("latest", time_route(registry, name, {}));
  print("version", time_route(registry, name, {.version = 2}));
  print("label", time_route(registry, name, {.label = "stable"}));
  for (const char* const policy : {"split", "epsilon_greedy", "ucb1", "thompson"}) {
    const RouteSpec spec = spec_of(policy);
    registry.set_routing(name, {{"stable", 1}}, &spec, {});
    const auto traffic = registry.traffic(name);
    for (std::size_t arm = 0; arm < 2; ++arm) traffic->arm(arm).add_reward(0.5);
    print(policy, time_route(registry, name, {}));
    if (spec.policy == "split") {
      print("split_by_key", time_route(registry, name, {.key = "user-1234567890"}));
    }
  }
  registry.set_routing(name, {}, nullptr, {});
}

// Calls for `length`; microseconds of each call.
void call(const Registry& registry, const std::string& name, std::span<const Tensor> row,
          const Settings& settings, std::vector<double>* latencies) {
  const auto end = SteadyTime::now() + settings.length;
  for (auto begin = SteadyTime::now(); begin < end; begin = SteadyTime::now()) {
    Decision decision;
    registry.route(name, {}, &decision).throw_if_failed();
    const RequestRef request = make_request(*decision.model, row);
    decision.watch(*request);
    decision.model->infer(request).throw_if_failed();
    latencies->push_back(seconds_since(begin) * 1e6);
    if (settings.gap.count() > 0) std::this_thread::sleep_for(settings.gap);
  }
}

std::vector<double> call_by_all(const Registry& registry, const std::string& name,
                                std::span<const Tensor> row, const Settings& settings) {
  std::vector<std::vector<double>> each(static_cast<std::size_t>(settings.callers));
  std::vector<std::thread> callers;
  callers.reserve(each.size());
  for (auto& latencies : each) {
    callers.emplace_back([&] { call(registry, name, row, settings, &latencies); });
  }
  for (std::thread& caller : callers) caller.join();
  std::vector<double> all;
  for (const auto& latencies : each) all.insert(all.end(), latencies.begin(), latencies.end());
  return all;
}

// Percentiles of each turn, since one bad moment of the machine would else be
// the p99 of all.
struct Side {
  void add(const std::vector<double>& latencies) {
    p50.push_back(percentile(latencies, 0.5));
    p99.push_back(percentile(latencies, 0.99));
    calls += latencies.size();
  }
  void print(const char* what, const Side& reference) const {
    std::printf("| %s | %.1f | %.2f | %.1f | %.2f | %zu |\n", what, median(p50),
                median(p50) / median(reference.p50), median(p99),
                median(p99) / median(reference.p99), calls);
  }

  std::vector<double> p50, p99;
  std::size_t calls = 0;
};

void measure_shadow(Registry& registry, const std::string& name, std::span<const Tensor> row,
                    const Settings& settings, std::string* json) {
  RouteSpec unrouted;  // version 1, and nothing is counted
  unrouted.arms[0].target.version = 1;
  RouteSpec routed;
  routed.policy = "split";
  routed.arms = {{"one", {1, {}}, kWhole}};
  RouteSpec shadowed = routed;
  shadowed.shadow =
      ShadowSpec{.target = {2, {}}, .share = settings.copied, .tolerance = {1e-3, 1e-3}};
  Side plain;
  Side counted;
  Side with_shadow;
  ShadowStatsSnapshot copies;
  call_by_all(registry, name, row, settings);  // warms up
  for (int turn = 0; turn < settings.turns; ++turn) {
    registry.set_routing(name, {}, &unrouted, {});
    plain.add(call_by_all(registry, name, row, settings));
    registry.set_routing(name, {}, &routed, {});
    counted.add(call_by_all(registry, name, row, settings));
    registry.set_routing(name, {}, &shadowed, {});
    with_shadow.add(call_by_all(registry, name, row, settings));
    const ShadowStatsSnapshot stats = registry.traffic(name)->shadow()->stats();
    copies.sampled += stats.sampled;
    copies.dropped += stats.dropped;
    copies.matched += stats.matched;
  }
  registry.set_routing(name, {}, nullptr, {});
  std::printf(
      "\n| %d callers, %lld us apart | p50 us | ratio | p99 us | ratio | calls |\n"
      "|---|---|---|---|---|---|\n",
      settings.callers, static_cast<long long>(settings.gap.count()));
  plain.print("without a route", plain);
  counted.print("counted by an arm", plain);
  with_shadow.print("with a shadow", plain);
  std::printf("\n%llu copies: %llu compared, %llu dropped\n\n",
              static_cast<unsigned long long>(copies.sampled),
              static_cast<unsigned long long>(copies.matched),
              static_cast<unsigned long long>(copies.dropped));
  *json +=
      ", \"p99_us\": " + std::to_string(median(plain.p99)) +
      ", \"shadow_p50_ratio\": " + std::to_string(median(with_shadow.p50) / median(plain.p50)) +
      ", \"shadow_p99_ratio\": " + std::to_string(median(with_shadow.p99) / median(plain.p99)) +
      ", \"copied\": " + std::to_string(copies.sampled) +
      ", \"dropped\": " + std::to_string(copies.dropped);
}

void measure(Arguments& arguments) {
  Settings settings;
  settings.model = arguments.text("model", "mlp_64_256_256_10");
  settings.callers = std::max(1, arguments.whole("callers", 1));
  settings.instances = std::max(1, arguments.whole("instances", 1));
  settings.gap = std::chrono::microseconds(arguments.whole("gap-us", 0));
  settings.copied = std::min(kWhole, arguments.whole("copied", kWhole));
  settings.length = to_nanoseconds(arguments.number("seconds", 0.05));
  settings.turns = std::max(1, arguments.whole("turns", 60));
  arguments.check_all_used();

  const std::string path = model_path(settings.model);
  const std::string name = model_label(path);
  ModelOptions options;
  options.instances = {{Device{}, settings.instances}};
  Registry registry;
  for (const int64_t version : {1, 2}) {
    registry.add(ModelVersion::load(name, version, {.path = path}, options));
  }
  std::shared_ptr<ModelVersion> model;
  registry.find(name, 1, &model).throw_if_failed();
  const FilledInputs row(model->signature(), 1);
  std::string json;
  measure_lookups(registry, name, &json);
  measure_shadow(registry, name, row.tensors(), settings, &json);
  std::printf(
      "{\"benchmark\": \"routing\", \"model\": \"%s\", \"callers\": %d, \"instances\": %d, "
      "%s}\n",
      name.c_str(), settings.callers, settings.instances, json.c_str());
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, kUsage, measure); }
