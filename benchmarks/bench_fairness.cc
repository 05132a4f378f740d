// What a model's caller notices of a flood on another model.
//
// Usage text below. One caller calls one model, with a pause after each answer,
// for a while in quiet and for a while beside the flood, in turns, so that the
// machine's moods hit both: the quiet latency is the reference.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/onnx_library.h"
#include "figures.h"
#include "probe/closed_loop.h"
#include "program.h"
#include "served_model.h"

namespace {

using namespace pyruntime;
using namespace pyruntime::bench;

constexpr const char* kUsage =
    "bench_fairness [--flood NAME|PATH|echo] [--called NAME|PATH|echo] [--in-flight 64]\n"
    "               [--instances CORES] [--gap-us 1000] [--echo-us 1000]\n"
    "               [--seconds 0.5] [--turns 10]\n"
    "\n"
    "flood: the model flooded, with so many requests in flight; without it one that takes tens\n"
    "    of microseconds a batch, then one that takes milliseconds a row.\n"
    "instances: of the flooded model; as many as there are cores unless given.\n"
    "called: the model called, the MLP unless given; one caller, who pauses for the gap.\n"
    "seconds: of quiet and of flood in one turn.\n"
    "A call is due when its pause ends. Beside the flood the caller may then wait for a core, "
    "which\n"
    "only the second line shows.\n"
    "Prints a table in Markdown and a line of JSON for each flood; then what part of its rows/s "
    "each\n"
    "of the two models keeps while both are flooded.\n";

struct Settings {
  std::string called;
  int in_flight;
  int instances;
  std::chrono::microseconds gap;
  int64_t echo_us;
  Nanoseconds length;
  int turns;
};

// Microseconds of each call.
struct Latencies {
  std::vector<double> of_call;  // from the call to its answer
  std::vector<double>
      from_due;  // from the end of the pause: also what the caller waited for a core
};

// Calls for `length`.
void call(const ServedModel& called, std::chrono::microseconds gap, Nanoseconds length,
          Latencies* latencies) {
  const auto begin = SteadyTime::now();
  auto due = begin;
  while (due - begin < length) {
    std::this_thread::sleep_until(due);
    const auto sent = SteadyTime::now();
    called.infer();
    latencies->of_call.push_back(seconds_since(sent) * 1e6);
    latencies->from_due.push_back(seconds_since(due) * 1e6);
    due = SteadyTime::now() + gap;
  }
}

// A side of the table: p50 and p99 quiet, flooded, and the ratios.
struct Comparison {
  Comparison(const std::vector<double>& quiet_us, const std::vector<double>& flooded_us)
      : quiet_p50(percentile(quiet_us, 0.5)),
        quiet_p99(percentile(quiet_us, 0.99)),
        flooded_p50(percentile(flooded_us, 0.5)),
        flooded_p99(percentile(flooded_us, 0.99)) {}

  void print_line(const char* what) const {
    std::printf("| %s | %.1f | %.1f | %.2f | %.1f | %.1f | %.2f |\n", what, quiet_p50, flooded_p50,
                flooded_p50 / quiet_p50, quiet_p99, flooded_p99, flooded_p99 / quiet_p99);
  }
  void print_json(const char* prefix) const {
    std::printf(
        ", \"%squiet_p50_us\": %.1f, \"%sflooded_p50_us\": %.1f, \"%sp50_ratio\": %.2f, "
        "\"%squiet_p99_us\": %.1f, \"%sflooded_p99_us\": %.1f, \"%sp99_ratio\": %.2f",
        prefix, quiet_p50, prefix, flooded_p50, prefix, flooded_p50 / quiet_p50, prefix, quiet_p99,
        prefix, flooded_p99, prefix, flooded_p99 / quiet_p99);
  }

  double quiet_p50, quiet_p99, flooded_p50, flooded_p99;
};

// Rows per second.
double rate(ClosedLoop<>& flood, std::chrono::nanoseconds length) {
  flood.measure(length / 10);  // until it runs evenly
  return flood.measure(length).requests_per_s();
}

// Two models flooded at once: which part each keeps of the rows/s that it has alone.
void bench_two_floods(const ServedModel& one, const ServedModel& other, const Settings& settings) {
  const ClosedLoop<>::Options options{.in_flight = static_cast<std::size_t>(settings.in_flight)};
  ModelSender one_sender(one.model(), one.row());
  ModelSender other_sender(other.model(), other.row());
  ClosedLoop<> one_flood(one_sender, options);
  ClosedLoop<> other_flood(other_sender, options);
  std::vector<double> one_share;
  std::vector<double> other_share;
  for (int turn = 0; turn < settings.turns; ++turn) {
    const double one_alone = rate(one_flood, settings.length / 2);
    const double other_alone = rate(other_flood, settings.length / 2);
    other_flood.start();
    const int64_t before = other_flood.done();
    const auto begin = SteadyTime::now();
    one_share.push_back(rate(one_flood, settings.length) / one_alone);
    const auto rows = static_cast<double>(other_flood.done() - before);
    other_share.push_back(rows / seconds_since(begin) / other_alone);
    other_flood.stop();
  }
  std::printf(
      "both flooded: %s keeps %.2f of its rows/s alone, %s keeps %.2f\n\n"
      "{\"benchmark\": \"fairness of two floods\", \"one\": \"%s\", \"one_keeps\": %.3f, "
      "\"other\": \"%s\", \"other_keeps\": %.3f, \"one_instances\": %d, \"in_flight\": %d}\n\n",
      one.label().c_str(), median(one_share), other.label().c_str(), median(other_share),
      one.label().c_str(), median(one_share), other.label().c_str(), median(other_share),
      settings.instances, settings.in_flight);
}

void bench(const std::string& flood_name, const Settings& settings) {
  ModelOptions many;
  many.instances[0].count = settings.instances;
  const ServedModel flooded = ServedModel::load(flood_name, many, settings.echo_us);
  const ServedModel called = ServedModel::load(settings.called, {}, settings.echo_us);
  ModelSender sender(flooded.model(), flooded.row());
  ClosedLoop<> flood(sender, {.in_flight = static_cast<std::size_t>(settings.in_flight)});

  Latencies quiet;
  Latencies beside;
  std::vector<double> flood_rates;
  call(called, settings.gap, settings.length / 4, &quiet);  // warms up
  flood.measure(settings.length / 4);
  quiet = {};
  for (int turn = 0; turn < settings.turns; ++turn) {
    call(called, settings.gap, settings.length, &quiet);
    flood.start();
    std::this_thread::sleep_for(settings.length / 10);  // until it runs evenly
    const int64_t before = flood.done();
    const auto begin = SteadyTime::now();
    call(called, settings.gap, settings.length, &beside);
    flood_rates.push_back(static_cast<double>(flood.done() - before) / seconds_since(begin));
    flood.stop();
  }

  const Comparison of_call(quiet.of_call, beside.of_call);
  const Comparison from_due(quiet.from_due, beside.from_due);
  std::printf("%s called beside a flood of %d on %s (%d instances, %.0f rows/s)\n\n",
              called.label().c_str(), settings.in_flight, flooded.label().c_str(),
              settings.instances, median(flood_rates));
  std::puts(
      "| us | p50 quiet | flooded | ratio | p99 quiet | flooded | ratio |\n"
      "|:--|--:|--:|--:|--:|--:|--:|");
  of_call.print_line("call to answer");
  from_due.print_line("due to answer");
  std::printf(
      "\n{\"benchmark\": \"fairness\", \"flooded\": \"%s\", \"called\": \"%s\", "
      "\"onnxruntime\": \"%s\", \"cores\": %u, \"in_flight\": %d, \"instances\": %d, "
      "\"gap_us\": %lld, \"flood_rows_per_s\": %.0f, \"quiet_calls\": %zu, "
      "\"flooded_calls\": %zu",
      flooded.label().c_str(), called.label().c_str(), onnx_library_version().c_str(),
      std::thread::hardware_concurrency(), settings.in_flight, settings.instances,
      static_cast<long long>(settings.gap.count()), median(flood_rates), quiet.of_call.size(),
      beside.of_call.size());
  of_call.print_json("");
  from_due.print_json("due_");
  std::puts("}\n");
  bench_two_floods(flooded, called, settings);
}

void bench_fairness(Arguments& arguments) {
  const std::string flood = arguments.text("flood", "");
  Settings settings;
  settings.called = arguments.text("called", "mlp_64_256_256_10");
  settings.in_flight = arguments.whole("in-flight", 64);
  settings.instances = arguments.whole(
      "instances", std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  settings.gap = std::chrono::microseconds(arguments.whole("gap-us", 1000));
  settings.echo_us = arguments.whole("echo-us", 1000);
  settings.length = to_nanoseconds(arguments.number("seconds", 0.5));
  settings.turns = std::max(1, arguments.whole("turns", 10));
  arguments.check_all_used();

  const std::vector<std::string> floods =
      flood.empty() ? std::vector<std::string>{"mlp_64_256_256_10", "conv_64"}
                    : std::vector<std::string>{flood};
  for (const std::string& name : floods) bench(name, settings);
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, kUsage, bench_fairness); }
