// The core against the bare engine, in one run: a blocking caller's one row
// beside C Run with preallocated output, and 32 requests in flight beside the
// best batched Run loop.
//
//   PYRUNTIME_ONNXRUNTIME=.../libonnxruntime.so.N bench_scheduler [MAX_ROWS [MODEL.onnx]]
//
// MAX_ROWS: of a batch, 0 unless given: found by the scheduler. MODEL: one float32 input [rows, n]
// and one float32 output [rows, m]; without it tests/models/identity_f32.onnx and
// mlp_64_256_256_10.onnx. The sides take turns, a slice of time each, so that the
// machine's moods hit all. One JSON line per model: figures are medians of the
// slices, ratios and differences are taken within a turn first.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/cache_line.h"
#include "engine/onnx_library.h"
#include "probe/bare_run.h"
#include "probe/closed_loop.h"
#include "serving/model.h"

namespace {

using namespace pyruntime;
using SteadyTime = std::chrono::steady_clock;

constexpr int kSlices = 40;
constexpr auto kSlice = std::chrono::milliseconds(40);  // long beside waking an idle core
constexpr std::size_t kInFlight = 32;
constexpr int64_t kLargestRun = 32;  // rows, of the bare loops

double seconds_since(SteadyTime::time_point start) {
  return std::chrono::duration<double>(SteadyTime::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

// Calls `work`, which does `rows` rows, for one slice; returns rows per second.
template <typename Work>
double rate(int64_t rows, Work&& work) {
  const auto start = SteadyTime::now();
  int64_t done = 0;
  do {
    for (int i = 0; i < 16; ++i) work();
    done += 16 * rows;
  } while (SteadyTime::now() - start < kSlice);
  return static_cast<double>(done) / seconds_since(start);
}

// Nanoseconds for a word to another core and back: what every cache line costs
// that a request takes along. A virtual machine's cores may be near each other
// or far, and that changes by the minute.
double core_round_trip_ns() {
  // Where the two threads share a core a trip takes a time slice: no more than
  // kLimit of those.
  constexpr int64_t kTrips = 2000;
  constexpr auto kLimit = std::chrono::milliseconds(5);
  alignas(kCacheLine) std::atomic<int64_t> there{0};
  alignas(kCacheLine) std::atomic<int64_t> back{0};
  std::thread other([&] {
    for (int64_t seen = 0; seen >= 0;) {
      const int64_t now = there.load(std::memory_order_acquire);
      if (now == seen) {
        cpu_relax();
      } else {
        back.store(seen = now, std::memory_order_release);
      }
    }
  });
  SteadyTime::time_point start;
  int64_t trip = 0;
  while (trip < kTrips && (trip < 2 || SteadyTime::now() - start < kLimit)) {
    if (++trip == 2) start = SteadyTime::now();
    there.store(trip, std::memory_order_release);
    while (back.load(std::memory_order_acquire) != trip) cpu_relax();
  }
  const double elapsed = seconds_since(start);
  there.store(-1, std::memory_order_release);
  other.join();
  return elapsed * 1e9 / static_cast<double>(trip - 1);
}

// Keeps kInFlight requests in flight from one more thread, which waits for the
// oldest and submits the next: what a caller with a thread of its own costs.
double rate_by_thread(ModelVersion& model, std::span<const Tensor> inputs) {
  std::array<RequestRef, kInFlight> requests;
  const auto submit = [&](RequestRef& request) {
    request = make_request(model, inputs);
    model.submit(request).throw_if_failed();
  };
  const auto await = [](const RequestRef& request) {
    while (!request->is_done()) cpu_relax();
    request->status.throw_if_failed();
  };
  const auto start = SteadyTime::now();
  for (RequestRef& request : requests) submit(request);
  int64_t done = 0;
  while (SteadyTime::now() - start < kSlice) {
    for (RequestRef& request : requests) {
      await(request);
      submit(request);
    }
    done += kInFlight;
  }
  const double elapsed = seconds_since(start);
  for (const RequestRef& request : requests) await(request);
  return static_cast<double>(done) / elapsed;
}

// Requests in flight on a model of their own, so that its statistics are of
// them alone.
struct Side {
  Side(const char* label, const std::string& path, const ModelOptions& options)
      : name(label), model(ModelVersion::load(label, 1, {.path = path, .bytes = {}}, options)) {}

  const char* name;
  std::shared_ptr<ModelVersion> model;
  std::vector<double> rates;
};

void print(const Side& side, const std::vector<double>& bare) {
  std::vector<double> ratios(bare.size());
  for (std::size_t i = 0; i < bare.size(); ++i) ratios[i] = side.rates[i] / bare[i];
  const SchedulerStatsSnapshot stats = side.model->stats();
  std::printf(
      ", \"%s\": {\"rows_per_s\": %.0f, \"ratio_to_best_run\": %.3f, "
      "\"mean_batch_rows\": %.1f, \"mean_gather_us\": %.2f, \"mean_run_us\": %.2f, "
      "\"mean_scatter_us\": %.2f}",
      side.name, median(side.rates), median(ratios),
      static_cast<double>(stats.rows) / static_cast<double>(stats.batches),
      stats.gather.mean_ns() / 1e3, stats.run.mean_ns() / 1e3, stats.scatter.mean_ns() / 1e3);
}

void bench(const std::string& path, int64_t max_rows) {
  ModelOptions options;
  options.batching.max_rows = max_rows;
  const auto model = ModelVersion::load("bench", 1, {.path = path, .bytes = {}}, options);
  const TensorSpec& in = model->signature().inputs.at(0);
  const TensorSpec& out = model->signature().outputs.at(0);
  if (!model->signature().is_batchable || in.dims.size() != 2 || out.dims.size() != 2) {
    std::fprintf(stderr, "%s: expected float32 [rows, n] to [rows, m]\n", path.c_str());
    std::exit(2);
  }
  const int64_t columns = in.dims[1];
  std::vector<float> values(static_cast<std::size_t>(kLargestRun * columns), 0.5F);
  const auto input_of = [&](int64_t rows) {
    Tensor tensor;
    tensor.shape = Shape{rows, columns};
    tensor.data = reinterpret_cast<std::byte*>(values.data());
    return tensor;
  };
  const std::array<Tensor, 1> row = {input_of(1)};

  const auto session = std::make_shared<const BareSession>(path, options.session);
  std::vector<std::unique_ptr<BareRun>> runs;
  std::vector<int64_t> sizes;
  for (int64_t rows = 1; rows <= kLargestRun; rows *= 2) {
    const std::array<Tensor, 1> input = {input_of(rows)};
    sizes.push_back(rows);
    runs.push_back(std::make_unique<BareRun>(session, input));
  }
  Side by_itself("in_flight_by_completion", path, options);
  Side by_thread("in_flight_by_thread", path, options);
  ModelSender sender(*by_itself.model, row);
  ClosedLoop<> closed_loop(sender, {.in_flight = kInFlight});
  const auto infer = [&] { model->infer(make_request(*model, row)).throw_if_failed(); };

  std::vector<std::vector<double>> bare(sizes.size());
  std::vector<double> blocking;
  std::vector<double> over_run_us;
  std::vector<double> round_trips_ns;
  for (int slice = 0; slice < kSlices; ++slice) {
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      bare[i].push_back(rate(sizes[i], *runs[i]));
    }
    by_itself.rates.push_back(closed_loop.measure(kSlice).requests_per_s());
    by_thread.rates.push_back(rate_by_thread(*by_thread.model, row));
    blocking.push_back(rate(1, infer));
    over_run_us.push_back(1e6 / blocking.back() - 1e6 / bare[0].back());
    round_trips_ns.push_back(core_round_trip_ns());
  }

  std::size_t best = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (median(bare[i]) > median(bare[best])) best = i;
  }
  std::printf(
      "{\"benchmark\": \"scheduler\", \"model\": \"%s\", \"onnxruntime\": \"%s\", "
      "\"cores\": %u, \"core_round_trip_ns\": %.0f, \"c_run_us\": %.2f, \"infer_us\": %.2f, "
      "\"infer_minus_run_us\": %.2f, "
      "\"max_rows\": %lld, \"in_flight\": %zu, \"best_run_rows\": %lld, "
      "\"best_run_rows_per_s\": %.0f",
      std::filesystem::path(path).stem().c_str(), onnx_library_version().c_str(),
      std::thread::hardware_concurrency(), median(round_trips_ns), 1e6 / median(bare[0]),
      1e6 / median(blocking), median(over_run_us), static_cast<long long>(max_rows), kInFlight,
      static_cast<long long>(sizes[best]), median(bare[best]));
  print(by_itself, bare[best]);
  print(by_thread, bare[best]);
  std::printf("}\n");
}

}  // namespace

int main(int argc, char** argv) {
  const char* library = std::getenv("PYRUNTIME_ONNXRUNTIME");
  if (library == nullptr) {
    std::fprintf(stderr, "set PYRUNTIME_ONNXRUNTIME to the path of libonnxruntime.so.*\n");
    return 2;
  }
  try {
    OnnxLibraryOptions options;
    options.path = library;
    configure_onnx_library(options);
    char* end = nullptr;
    const int64_t max_rows = argc > 1 ? std::strtoll(argv[1], &end, 10) : 0;
    if (argc > 1 && *end != '\0') {
      std::fprintf(stderr, "MAX_ROWS: expected a number, got '%s'\n", argv[1]);
      return 2;
    }
    if (argc > 2) {
      bench(argv[2], max_rows);
      return 0;
    }
    const auto models = std::filesystem::path(__FILE__).parent_path() / "../tests/models";
    for (const char* name : {"identity_f32.onnx", "mlp_64_256_256_10.onnx"})
      bench(models / name, max_rows);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_scheduler: %s\n", error.what());
    return 1;
  }
  return 0;
}
