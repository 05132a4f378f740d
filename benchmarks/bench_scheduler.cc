// The core against the bare engine, in one run: a blocking caller's one row
// beside C Run with preallocated output, and 32 requests in flight beside the
// best batched Run loop.
//
//   PYRUNTIME_ONNXRUNTIME=.../libonnxruntime.so.N bench_scheduler [MAX_ROWS [MODEL.onnx]]
//
// MAX_ROWS: of a batch, 16 unless given: where larger ones only add latency to the
// MLP. MODEL: one float32 input [rows, n] and one float32 output [rows, m]; without
// it tests/models/identity_f32.onnx and mlp_64_256_256_10.onnx. The two sides
// take turns, a slice of time each, so that the machine's moods hit both. One
// JSON line per model: microseconds are medians of slices, ratios are of those.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/onnx_api.h"
#include "engine/onnx_environment.h"
#include "engine/onnx_library.h"
#include "serving/model.h"

namespace {

using namespace pyruntime;
using SteadyTime = std::chrono::steady_clock;

constexpr int kSlices = 15;
constexpr auto kSlice = std::chrono::milliseconds(100);  // long beside waking an idle core
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

// C Run on fixed values: the engine alone.
class BareRun {
 public:
  BareRun(const std::string& path, int64_t rows, int64_t columns, int64_t out_columns,
          const char* input, const char* output)
      : input_name_(input), output_name_(output) {
    auto options = ort::make<ort::SessionOptions>(&ort::Api::CreateSessionOptions, "options");
    ort::check(ort::api().SetIntraOpNumThreads(options.get(), 1), "SetIntraOpNumThreads");
    session_ = ort::make<ort::Session>(&ort::Api::CreateSession, "CreateSession",
                                       ort::environment(false), path.c_str(), options.get());
    in_.resize(static_cast<std::size_t>(rows * columns), 0.5F);
    out_.resize(static_cast<std::size_t>(rows * out_columns));
    const int64_t in_shape[] = {rows, columns};
    const int64_t out_shape[] = {rows, out_columns};
    input_ = value(in_, in_shape);
    output_ = value(out_, out_shape);
  }

  void operator()() {
    const ort::OrtValue* inputs[] = {input_.get()};
    ort::OrtValue* outputs[] = {output_.get()};
    ort::check(
        ort::api().Run(session_.get(), nullptr, &input_name_, inputs, 1, &output_name_, 1, outputs),
        "Run");
  }

 private:
  static ort::Value value(std::vector<float>& data, const int64_t (&shape)[2]) {
    return ort::make<ort::Value>(&ort::Api::CreateTensorWithDataAsOrtValue, "CreateTensor",
                                 ort::cpu_memory(), static_cast<void*>(data.data()),
                                 data.size() * sizeof(float), &shape[0], std::size_t{2}, 1);
  }

  const char* input_name_;
  const char* output_name_;
  ort::Session session_;
  std::vector<float> in_, out_;
  ort::Value input_, output_;
};

// Keeps requests in flight: each completion lets the submitting thread put
// another one in its place.
class InFlight {
 public:
  InFlight(ModelVersion& model, std::vector<float>& row, int64_t columns)
      : model_(model), row_(row), columns_(columns) {}

  double rate_for_a_slice() {
    const auto start = SteadyTime::now();
    int64_t done = 0;
    for (std::size_t i = 0; i < kInFlight; ++i) submit();
    while (SteadyTime::now() - start < kSlice) {
      const int64_t free = free_.exchange(0, std::memory_order_acq_rel);
      for (int64_t i = 0; i < free; ++i) submit();
      done += free;
      if (free == 0) std::this_thread::yield();
    }
    const double elapsed = seconds_since(start);
    for (int64_t left = kInFlight; left > 0;) left -= free_.exchange(0, std::memory_order_acq_rel);
    return static_cast<double>(done) / elapsed;
  }

 private:
  void submit() {
    RequestRef request = model_.new_request();
    Tensor& input = request->inputs[0];
    input.type = DataType::kFloat32;
    input.shape = Shape{1, columns_};
    input.data = reinterpret_cast<std::byte*>(row_.data());
    request->on_complete = [](void* context, Request&) noexcept {
      static_cast<std::atomic<int64_t>*>(context)->fetch_add(1, std::memory_order_acq_rel);
    };
    request->context = &free_;
    model_.submit(request).throw_if_failed();
  }

  ModelVersion& model_;
  std::vector<float>& row_;
  const int64_t columns_;
  std::atomic<int64_t> free_{0};
};

void bench(const std::string& path, int64_t max_rows) {
  ModelOptions options;
  options.batching.max_rows = max_rows;
  const auto model = ModelVersion::load("bench", 1, {.path = path, .bytes = {}}, options);
  // Of its own, so that its statistics are of requests in flight alone.
  const auto busy = ModelVersion::load("busy", 1, {.path = path, .bytes = {}}, options);
  const TensorSpec& in = model->signature().inputs.at(0);
  const TensorSpec& out = model->signature().outputs.at(0);
  if (!model->signature().is_batchable || in.dims.size() != 2 || out.dims.size() != 2) {
    std::fprintf(stderr, "%s: expected float32 [rows, n] to [rows, m]\n", path.c_str());
    std::exit(2);
  }
  const int64_t columns = in.dims[1];
  std::vector<float> row(static_cast<std::size_t>(columns), 0.5F);

  std::vector<std::unique_ptr<BareRun>> runs;
  std::vector<int64_t> sizes;
  for (int64_t rows = 1; rows <= kLargestRun; rows *= 2) {
    sizes.push_back(rows);
    runs.push_back(std::make_unique<BareRun>(path, rows, columns, out.dims[1], in.name.c_str(),
                                             out.name.c_str()));
  }
  InFlight in_flight(*busy, row, columns);
  const auto infer = [&] {
    const RequestRef request = model->new_request();
    Tensor& input = request->inputs[0];
    input.type = DataType::kFloat32;
    input.shape = Shape{1, columns};
    input.data = reinterpret_cast<std::byte*>(row.data());
    model->infer(request).throw_if_failed();
  };

  std::vector<std::vector<double>> bare(sizes.size());
  std::vector<double> blocking;
  std::vector<double> asynchronous;
  for (int slice = 0; slice < kSlices; ++slice) {
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      bare[i].push_back(rate(sizes[i], *runs[i]));
    }
    blocking.push_back(rate(1, infer));
    asynchronous.push_back(in_flight.rate_for_a_slice());
  }

  std::size_t best = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (median(bare[i]) > median(bare[best])) best = i;
  }
  const double run_us = 1e6 / median(bare[0]);
  const double infer_us = 1e6 / median(blocking);
  const SchedulerStatsSnapshot stats = busy->stats();
  const auto batches = static_cast<double>(stats.batches);
  std::printf(
      "{\"benchmark\": \"scheduler\", \"model\": \"%s\", \"onnxruntime\": \"%s\", "
      "\"cores\": %u, \"c_run_us\": %.2f, \"infer_us\": %.2f, \"infer_minus_run_us\": %.2f, "
      "\"max_rows\": %lld, \"best_batched_run_rows\": %lld, \"best_batched_rows_per_s\": %.0f, "
      "\"in_flight\": %zu, \"in_flight_rows_per_s\": %.0f, \"in_flight_to_best_batched\": %.3f, "
      "\"mean_batch_rows\": %.1f, \"mean_gather_us\": %.2f, \"mean_run_us\": %.2f, "
      "\"mean_scatter_us\": %.2f}\n",
      std::filesystem::path(path).stem().c_str(), onnx_library_version().c_str(),
      std::thread::hardware_concurrency(), run_us, infer_us, infer_us - run_us,
      static_cast<long long>(max_rows), static_cast<long long>(sizes[best]), median(bare[best]),
      kInFlight, median(asynchronous), median(asynchronous) / median(bare[best]),
      static_cast<double>(stats.rows) / batches, stats.gather.mean_ns() / 1e3,
      stats.run.mean_ns() / 1e3, stats.scatter.mean_ns() / 1e3);
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
    const int64_t max_rows = argc > 1 ? std::strtoll(argv[1], &end, 10) : 16;
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
