// A model that takes long: what the core adds to it, however many call.
//
// Usage text below. The reference is a loop of C Run of one row, as many
// threads of it as the model has instances, on one session with the same
// intra-op threads; beside it the same loop on as many rows at once as the
// core could batch. Measured in turns with each line, so that the machine's
// moods hit all; ratios are taken within a turn first.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/onnx_library.h"
#include "figures.h"
#include "probe/bare_run.h"
#include "program.h"
#include "served_model.h"

namespace {

using namespace pyruntime;
using namespace pyruntime::bench;

constexpr const char* kUsage =
    "bench_concurrency [--model NAME|PATH] [--intra-op-threads 1] [--instances 1]\n"
    "                  [--max-rows N] [--rows 16] [--turns 3]\n"
    "\n"
    "model: of tests/models or a path; conv_224 unless given, some 30 ms a row on one core.\n"
    "    Its inputs and outputs are float32.\n"
    "rows: of one measurement, a multiple of 8; the default suits 30 ms a row.\n"
    "Prints a table in Markdown and a line of JSON.\n";

constexpr std::array<int, 4> kConcurrencies{1, 2, 4, 8};

struct Settings {
  std::string model;
  ModelOptions options;
  int64_t rows;
  int turns;
};

// Rows per second of `threads` threads that make the calls for `rows` rows
// between them.
double rate(int threads, int64_t rows, int64_t rows_per_call,
            const std::function<void(int thread)>& work) {
  const int64_t calls = (rows + rows_per_call - 1) / rows_per_call;
  std::atomic<int64_t> left{calls};
  std::atomic<bool> begins{false};
  std::vector<std::thread> others;
  others.reserve(static_cast<std::size_t>(threads));
  for (int i = 0; i < threads; ++i) {
    others.emplace_back([&, i] {
      begins.wait(false);
      while (left.fetch_sub(1) > 0) work(i);
    });
  }
  const auto begin = SteadyTime::now();
  begins = true;
  begins.notify_all();
  for (std::thread& other : others) other.join();
  return static_cast<double>(calls * rows_per_call) / seconds_since(begin);
}

// Rows per second of so many in flight, from the first's submission until the
// last is answered.
double rate_in_flight(const ServedModel& served, int in_flight, int64_t rows) {
  struct Loop {
    const ServedModel& served;
    std::atomic<int64_t> to_submit;
    std::atomic<int64_t> to_answer;
    std::atomic<bool> has_failed{false};

    void follow() {
      if (to_submit.fetch_sub(1) <= 0) return;
      const RequestRef request = served.new_request();
      request->context = this;
      request->on_complete = [](void* context, Request& done) noexcept {
        Loop& loop = *static_cast<Loop*>(context);
        if (!done.status.ok()) loop.has_failed = true;
        loop.follow();
        if (loop.to_answer.fetch_sub(1) == 1) loop.to_answer.notify_one();
      };
      if (!served.model().submit(request).ok()) {
        has_failed = true;
        to_answer.fetch_sub(1);
      }
    }
  };
  Loop loop{served, rows, rows};
  const auto begin = SteadyTime::now();
  for (int i = 0; i < in_flight; ++i) loop.follow();
  for (int64_t left = 0; (left = loop.to_answer.load()) > 0;) loop.to_answer.wait(left);
  return static_cast<double>(rows) / seconds_since(begin);
}

struct Line {
  int concurrency;
  std::vector<double> run_batched, blocking, in_flight;  // rows per second of each turn
  std::vector<double> batched_ratio, blocking_ratio, in_flight_ratio;  // to the loop of one row
};

void print(const Settings& settings, const ServedModel& served, const std::vector<double>& run,
           const std::vector<Line>& lines) {
  std::printf("%s: C Run %.2f ms a row on each of %d threads, %.2f rows/s together\n\n",
              served.label().c_str(), 1e3 * settings.options.instances[0].count / median(run),
              settings.options.instances[0].count, median(run));
  std::puts(
      "| at once | blocking rows/s | to Run | in flight rows/s | to Run | batched Run rows/s | "
      "to Run |\n|--:|--:|--:|--:|--:|--:|--:|");
  for (const Line& line : lines) {
    std::printf("| %d | %.2f | %.3f | %.2f | %.3f | %.2f | %.3f |\n", line.concurrency,
                median(line.blocking), median(line.blocking_ratio), median(line.in_flight),
                median(line.in_flight_ratio), median(line.run_batched), median(line.batched_ratio));
  }
  std::printf(
      "\n{\"benchmark\": \"concurrency\", \"model\": \"%s\", \"onnxruntime\": \"%s\", "
      "\"cores\": %u, \"intra_op_threads\": %d, \"instances\": %d, \"run_rows_per_s\": %.3f, "
      "\"lines\": [",
      served.label().c_str(), onnx_library_version().c_str(), std::thread::hardware_concurrency(),
      settings.options.session.intra_op_threads, settings.options.instances[0].count, median(run));
  const char* separator = "";
  for (const Line& line : lines) {
    std::printf(
        "%s{\"at_once\": %d, \"blocking_rows_per_s\": %.3f, \"blocking_to_run\": %.3f, "
        "\"in_flight_rows_per_s\": %.3f, \"in_flight_to_run\": %.3f, "
        "\"batched_run_rows_per_s\": %.3f, \"batched_run_to_run\": %.3f}",
        separator, line.concurrency, median(line.blocking), median(line.blocking_ratio),
        median(line.in_flight), median(line.in_flight_ratio), median(line.run_batched),
        median(line.batched_ratio));
    separator = ", ";
  }
  std::puts("]}");
}

void bench_concurrency(Arguments& arguments) {
  Settings settings;
  settings.model = model_path(arguments.text("model", "conv_224"));
  const int threads = arguments.whole("instances", 1);
  settings.options.instances[0].count = threads;
  settings.options.session.intra_op_threads = arguments.whole("intra-op-threads", 1);
  BatchingOptions& batching = settings.options.batching;
  batching.max_rows = arguments.whole("max-rows", static_cast<int>(batching.max_rows));
  settings.rows = arguments.whole("rows", 16);
  settings.turns = std::max(1, arguments.whole("turns", 3));
  arguments.check_all_used();
  if (settings.rows == 0 || settings.rows % kConcurrencies.back() != 0) {
    throw Error(ErrorCode::kInvalidInput, "--rows: expected a multiple of 8");
  }

  const ServedModel served = ServedModel::load(settings.model, settings.options);
  const Signature& signature = served.model().signature();
  const auto session =
      std::make_shared<const BareSession>(settings.model, settings.options.session);
  const int64_t most_rows =
      signature.is_batchable ? served.model().options().batching.most_rows() : 1;
  // [i]: of up to kConcurrencies[i] rows at once, one for each thread.
  std::vector<std::deque<BareRun>> runs;  // of what cannot be moved
  std::vector<std::unique_ptr<FilledInputs>> inputs;
  std::vector<Line> lines;
  for (const int concurrency : kConcurrencies) {
    std::deque<BareRun>& of_rows = runs.emplace_back();
    const auto rows = std::min<int64_t>(concurrency, most_rows);
    inputs.push_back(std::make_unique<FilledInputs>(signature, rows));
    for (int i = 0; i < threads; ++i) of_rows.emplace_back(session, inputs.back()->tensors());
    lines.push_back({.concurrency = concurrency});
  }

  std::vector<double> run_rates;
  const auto run_of = [&](std::size_t i) {
    return rate(threads, settings.rows, std::min<int64_t>(kConcurrencies[i], most_rows),
                [&](int thread) { runs[i][static_cast<std::size_t>(thread)](); });
  };
  run_of(0);  // warms up
  served.infer();
  for (int turn = 0; turn < settings.turns; ++turn) {
    for (std::size_t i = 0; i < lines.size(); ++i) {
      Line& line = lines[i];
      // The reference on both sides of what it is held against.
      const double run_before = run_of(0);
      line.blocking.push_back(
          rate(line.concurrency, settings.rows, 1, [&](int) { served.infer(); }));
      line.in_flight.push_back(rate_in_flight(served, line.concurrency, settings.rows));
      const double run_after = run_of(0);
      line.run_batched.push_back(run_of(i));
      const double run = (run_before + run_after) / 2;
      run_rates.push_back(run);
      line.blocking_ratio.push_back(line.blocking.back() / run);
      line.in_flight_ratio.push_back(line.in_flight.back() / run);
      line.batched_ratio.push_back(line.run_batched.back() / run);
    }
  }
  print(settings, served, run_rates, lines);
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, kUsage, bench_concurrency); }
