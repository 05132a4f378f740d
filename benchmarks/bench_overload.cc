// What is answered in time when more arrives than can be served.
//
// Usage text below. The capacity is measured first in every turn, by requests
// kept in flight; then Poisson arrivals are offered at multiples of it, each
// request with a deadline. Good is what was answered with a result within its
// deadline, counted from when it was meant to be sent. A server that queues
// more than it can answer in time serves late answers only: its goodput falls
// to nothing exactly when it is needed.
//
// The generator needs a core. Where the model wants them all, generator and
// engine take it from each other, and so the loads of a model that computes are
// never quite what they say: lines on which the generator fell behind are
// marked. The echo engine waits without computing, so its lines measure the
// scheduler's decisions alone.
#include <algorithm>
#include <cinttypes>
#include <cstddef>
#include <cstdio>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "engine/onnx_library.h"
#include "figures.h"
#include "probe/closed_loop.h"
#include "probe/open_loop.h"
#include "program.h"
#include "served_model.h"

namespace {

using namespace pyruntime;
using namespace pyruntime::bench;

constexpr const char* kUsage =
    "bench_overload [--model NAME|PATH|echo] [--echo-us 1000] [--loads 0.5,1,2,3]\n"
    "               [--deadline-us N] [--seconds 0.7] [--turns 3]\n"
    "               [--max-rows N] [--queue-capacity N] [--instances 1]\n"
    "\n"
    "model: of tests/models or a path; without it the echo engine, then the MLP.\n"
    "loads: multiples of the capacity.\n"
    "deadline-us: of each request; 20 full batches, at least 2000, unless given.\n"
    "seconds: of one load in one turn. The others default to the core's.\n"
    "Prints a table in Markdown and a line of JSON for each model.\n";

struct Settings {
  std::vector<double> loads;
  double seconds;
  int turns;
  int64_t deadline_us;  // 0: by the batch
  int64_t echo_us;
  ModelOptions model;
};

// Of all turns together.
struct Load {
  explicit Load(double multiple) : times_capacity(multiple) {}

  double times_capacity;
  double seconds = 0;
  int64_t offered = 0, accepted = 0, in_time = 0, late = 0, expired = 0, failed = 0;
  int64_t refused_overloaded = 0, refused_deadline = 0, refused_otherwise = 0;
  uint64_t rows = 0, batches = 0;
  std::vector<double> latencies_us;  // of the accepted
  std::vector<double> lags_us;

  double per_second(int64_t count) const { return static_cast<double>(count) / seconds; }
  double batch_rows() const {
    return batches == 0 ? 0 : static_cast<double>(rows) / static_cast<double>(batches);
  }
  // The generator held up requests for so long that the load is another one.
  bool has_lagged(Nanoseconds deadline) const {
    return percentile(lags_us, 0.99) * 1e3 > static_cast<double>(deadline.count()) / 10;
  }

  void count(const Arrival& arrival, Nanoseconds deadline) {
    ++offered;
    lags_us.push_back(static_cast<double>(arrival.lag.count()) / 1e3);
    if (!arrival.is_accepted) {
      switch (arrival.outcome) {
        case ErrorCode::kOverloaded:
          ++refused_overloaded;
          break;
        case ErrorCode::kDeadlineExceeded:
          ++refused_deadline;
          break;
        default:
          ++refused_otherwise;
      }
      return;
    }
    ++accepted;
    latencies_us.push_back(static_cast<double>(arrival.latency.count()) / 1e3);
    switch (arrival.outcome) {
      case ErrorCode::kOk:
        ++(arrival.latency <= deadline ? in_time : late);
        break;
      case ErrorCode::kDeadlineExceeded:
        ++expired;
        break;
      default:
        ++failed;
    }
  }
};

// Throws EngineError unless every accepted request was answered once, and the
// scheduler's counts are what the client saw.
void check_conservation(const SchedulerStatsSnapshot& before, const SchedulerStatsSnapshot& after,
                        int64_t accepted_by_client) {
  const uint64_t accepted = after.accepted - before.accepted;
  const uint64_t answered = (after.completed - before.completed) + (after.failed - before.failed) +
                            (after.cancelled - before.cancelled);
  if (accepted == answered && accepted == static_cast<uint64_t>(accepted_by_client)) return;
  std::ostringstream text;
  text << "conservation: the client had " << accepted_by_client
       << " requests accepted, the scheduler counts " << accepted << " and answered " << answered;
  throw Error(ErrorCode::kEngineError, text.str());
}

// The best of some numbers in flight, requests per second.
double measure_capacity(const ServedModel& served, double seconds) {
  ModelSender sender(served.model(), served.row());
  const auto rows = static_cast<std::size_t>(
      std::clamp<int64_t>(served.model().options().batching.most_rows(), 32, 256));
  double best = 0;
  for (const std::size_t in_flight : {rows, 2 * rows, 4 * rows}) {
    ClosedLoop<> loop(sender, {.in_flight = in_flight});
    loop.measure(to_nanoseconds(seconds / 30));  // until it runs evenly
    best = std::max(best, loop.measure(to_nanoseconds(seconds / 3)).requests_per_s());
  }
  return best;
}

class Overload {
 public:
  Overload(const std::string& name, const Settings& settings)
      : settings_(settings), served_(ServedModel::load(name, settings.model, settings.echo_us)) {
    measure_capacity(served_, settings.seconds);  // warms up
    const SchedulerStatsSnapshot before = served_.model().stats();
    const double capacity = measure_capacity(served_, settings.seconds);
    const SchedulerStatsSnapshot after = served_.model().stats();
    const double batch_rows = static_cast<double>(after.rows - before.rows) /
                              static_cast<double>(after.batches - before.batches);
    const double batch_us = 1e6 * batch_rows / capacity * settings.model.instances[0].count;
    deadline_ = settings.deadline_us > 0
                    ? std::chrono::microseconds(settings.deadline_us)
                    : std::max<Nanoseconds>(to_nanoseconds(20 * batch_us / 1e6),
                                            std::chrono::milliseconds(2));
    for (const double load : settings.loads) loads_.emplace_back(load);
  }

  void run() {
    ModelSender sender(served_.model(), served_.row());
    OpenLoop<> open_loop(sender, deadline_);
    for (int turn = 0; turn < settings_.turns; ++turn) {
      const double capacity = measure_capacity(served_, settings_.seconds);
      capacities_.push_back(capacity);
      for (Load& load : loads_) {
        const SchedulerStatsSnapshot before = served_.model().stats();
        const int64_t accepted_before = load.accepted;
        const auto& arrivals = open_loop.offer(poisson_arrivals(
            load.times_capacity * capacity, to_nanoseconds(settings_.seconds), random_));
        for (const Arrival& arrival : arrivals) load.count(arrival, deadline_);
        const SchedulerStatsSnapshot after = served_.model().stats();
        check_conservation(before, after, load.accepted - accepted_before);
        load.seconds += settings_.seconds;
        load.rows += after.rows - before.rows;
        load.batches += after.batches - before.batches;
      }
    }
  }

  void print() const {
    std::printf("%s: capacity %.0f requests/s, deadline %.1f ms\n\n", served_.label().c_str(),
                median(capacities_), static_cast<double>(deadline_.count()) / 1e6);
    print_table();
    print_json();
  }

 private:
  double peak() const {
    double best = 0;
    for (const Load& load : loads_) best = std::max(best, load.per_second(load.in_time));
    return std::max(best, 1e-9);
  }

  void print_table() const {
    std::puts(
        "| load | offered/s | accepted/s | refused/s: Overloaded | DeadlineExceeded | other "
        "| in time/s | of peak | late/s | expired/s | failed/s | p50 ms | p99 ms | batch rows "
        "| lag p99 us |\n"
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    bool has_mark = false;
    for (const Load& load : loads_) {
      std::printf("| %g ", load.times_capacity);
      for (const int64_t count : {load.offered, load.accepted, load.refused_overloaded,
                                  load.refused_deadline, load.refused_otherwise, load.in_time}) {
        std::printf("| %.0f ", load.per_second(count));
      }
      std::printf("| %.3f ", load.per_second(load.in_time) / peak());
      for (const int64_t count : {load.late, load.expired, load.failed}) {
        std::printf("| %.0f ", load.per_second(count));
      }
      const bool is_marked = load.has_lagged(deadline_);
      has_mark |= is_marked;
      std::printf("| %.2f | %.2f | %.1f | %.0f%s |\n", percentile(load.latencies_us, 0.5) / 1e3,
                  percentile(load.latencies_us, 0.99) / 1e3, load.batch_rows(),
                  percentile(load.lags_us, 0.99), is_marked ? " *" : "");
    }
    if (has_mark) {
      std::puts("\n* The generator itself was late by more than a tenth of the deadline.");
    }
    std::puts("");
  }

  void print_json() const {
    std::printf(
        "{\"benchmark\": \"overload\", \"model\": \"%s\", \"onnxruntime\": \"%s\", \"cores\": %u, "
        "\"capacity_per_s\": %.0f, \"deadline_us\": %.0f, \"loads\": [",
        served_.label().c_str(), onnx_library_version().c_str(),
        std::thread::hardware_concurrency(), median(capacities_),
        static_cast<double>(deadline_.count()) / 1e3);
    const char* separator = "";
    for (const Load& load : loads_) {
      const double goodput = load.per_second(load.in_time);
      std::printf("%s{\"load\": %g, \"seconds\": %g, \"offered\": %" PRId64
                  ", \"accepted\": %" PRId64 ", \"refused_overloaded\": %" PRId64
                  ", \"refused_deadline\": %" PRId64 ", \"refused_otherwise\": %" PRId64
                  ", \"in_time\": %" PRId64 ", \"late\": %" PRId64 ", \"expired\": %" PRId64
                  ", \"failed\": %" PRId64
                  ", \"goodput_per_s\": %.0f, \"goodput_to_peak\": %.3f, \"p50_us\": %.0f, "
                  "\"p99_us\": %.0f, \"mean_batch_rows\": %.1f, \"lag_p99_us\": %.1f, "
                  "\"generator_lagged\": %s}",
                  separator, load.times_capacity, load.seconds, load.offered, load.accepted,
                  load.refused_overloaded, load.refused_deadline, load.refused_otherwise,
                  load.in_time, load.late, load.expired, load.failed, goodput, goodput / peak(),
                  percentile(load.latencies_us, 0.5), percentile(load.latencies_us, 0.99),
                  load.batch_rows(), percentile(load.lags_us, 0.99),
                  load.has_lagged(deadline_) ? "true" : "false");
      separator = ", ";
    }
    std::puts("]}\n");
  }

  const Settings settings_;
  const ServedModel served_;
  Nanoseconds deadline_{0};
  // NOLINTNEXTLINE(bugprone-random-generator-seed): the same arrivals in every program run
  std::mt19937_64 random_{1};
  std::vector<double> capacities_;  // of each turn, requests per second
  std::vector<Load> loads_;
};

std::vector<double> parse_loads(const std::string& text) {
  std::vector<double> loads;
  std::istringstream stream(text);
  for (double load = 0; stream >> load; stream.ignore(1, ',')) {
    if (load > 0) loads.push_back(load);
  }
  if (loads.empty() || !stream.eof()) {
    throw Error(ErrorCode::kInvalidInput, "--loads: expected 0.5,1,2, got '" + text + "'");
  }
  return loads;
}

void bench_overload(Arguments& arguments) {
  Settings settings;
  const std::string model = arguments.text("model", "");
  settings.loads = parse_loads(arguments.text("loads", "0.5,1,2,3"));
  settings.seconds = arguments.number("seconds", 0.7);
  settings.turns = std::max(1, arguments.whole("turns", 3));
  settings.deadline_us = arguments.whole("deadline-us", 0);
  settings.echo_us = arguments.whole("echo-us", 1000);
  BatchingOptions& batching = settings.model.batching;
  batching.max_rows = arguments.whole("max-rows", static_cast<int>(batching.max_rows));
  batching.queue_capacity = arguments.whole("queue-capacity", batching.queue_capacity);
  settings.model.instances[0].count = arguments.whole("instances", 1);
  arguments.check_all_used();

  const std::vector<std::string> names = model.empty()
                                             ? std::vector<std::string>{"echo", "mlp_64_256_256_10"}
                                             : std::vector<std::string>{model};
  for (const std::string& name : names) {
    Overload overload(name, settings);
    overload.run();
    overload.print();
  }
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, kUsage, bench_overload); }
