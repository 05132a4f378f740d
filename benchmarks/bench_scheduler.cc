// The core against the bare engine, in one run: a blocking caller's one row
// beside C Run with preallocated output, and 32 requests in flight beside the
// best batched Run loop.
//
//   PYRUNTIME_ONNXRUNTIME=.../libonnxruntime.so.N bench_scheduler [MAX_ROWS [MODEL.onnx]]
//
// MAX_ROWS: of a batch, 0 unless given: found by the scheduler. MODEL: one float32 input [rows, n] and
// one float32 output [rows, m]; without it tests/models/identity_f32.onnx and
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
#include <string>
#include <thread>
#include <vector>

#include "base/cache_line.h"
#include "engine/onnx_api.h"
#include "engine/onnx_environment.h"
#include "engine/onnx_library.h"
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
  constexpr int64_t kTrips = 2000;
  alignas(kCacheLine) std::atomic<int64_t> there{0};
  alignas(kCacheLine) std::atomic<int64_t> back{0};
  std::thread other([&] {
    for (int64_t i = 1; i <= kTrips; ++i) {
      while (there.load(std::memory_order_acquire) != i) cpu_relax();
      back.store(i, std::memory_order_release);
    }
  });
  SteadyTime::time_point start;
  for (int64_t i = 1; i <= kTrips; ++i) {
    if (i == 2) start = SteadyTime::now();
    there.store(i, std::memory_order_release);
    while (back.load(std::memory_order_acquire) != i) cpu_relax();
  }
  const double elapsed = seconds_since(start);
  other.join();
  return elapsed * 1e9 / (kTrips - 1);
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

// Keeps kInFlight requests of one row in flight, in a closed loop.
class InFlight {
 public:
  // Who submits the next request when one is done.
  enum class Successor {
    kByItself,  // its own on_complete
    kByThread,  // another thread, which waits for the oldest
  };

  InFlight(Successor successor, ModelVersion& model, std::vector<float>& row)
      : successor_(successor), model_(model), row_(row) {}

  double rate_for_a_slice() {
    return successor_ == Successor::kByItself ? rate_by_itself() : rate_by_thread();
  }

 private:
  double rate_by_itself() {
    stops_ = false;
    done_ = 0;
    left_ = kInFlight;
    const auto start = SteadyTime::now();
    for (std::size_t i = 0; i < kInFlight; ++i) follow();
    std::this_thread::sleep_for(kSlice);
    const auto done = static_cast<double>(done_.load());
    const double elapsed = seconds_since(start);
    stops_ = true;
    while (left_ != 0) std::this_thread::yield();
    return done / elapsed;
  }

  void follow() {
    const RequestRef request = new_request();
    request->on_complete = [](void* context, Request& done) noexcept {
      done.status.throw_if_failed();
      auto& self = *static_cast<InFlight*>(context);
      self.done_.fetch_add(1, std::memory_order_relaxed);
      if (self.stops_.load(std::memory_order_relaxed)) {
        self.left_.fetch_sub(1);
      } else {
        self.follow();
      }
    };
    request->context = this;
    model_.submit(request).throw_if_failed();
  }

  double rate_by_thread() {
    std::array<RequestRef, kInFlight> requests;
    const auto submit = [&](RequestRef& request) {
      request = new_request();
      model_.submit(request).throw_if_failed();
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

  RequestRef new_request() {
    RequestRef request = model_.new_request();
    Tensor& input = request->inputs[0];
    input.type = DataType::kFloat32;
    input.shape = Shape{1, static_cast<int64_t>(row_.size())};
    input.data = reinterpret_cast<std::byte*>(row_.data());
    return request;
  }

  const Successor successor_;
  ModelVersion& model_;
  std::vector<float>& row_;
  std::atomic<bool> stops_{false};
  std::atomic<int64_t> done_{0};
  std::atomic<int64_t> left_{0};
};

// Requests in flight on a model of their own, so that its statistics are of
// them alone.
struct Side {
  Side(const char* label, InFlight::Successor successor, const std::string& path,
       const ModelOptions& options, std::vector<float>& row)
      : name(label),
        model(ModelVersion::load(label, 1, {.path = path, .bytes = {}}, options)),
        in_flight(successor, *model, row) {}

  const char* name;
  std::shared_ptr<ModelVersion> model;
  InFlight in_flight;
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
  std::vector<float> row(static_cast<std::size_t>(columns), 0.5F);

  std::vector<std::unique_ptr<BareRun>> runs;
  std::vector<int64_t> sizes;
  for (int64_t rows = 1; rows <= kLargestRun; rows *= 2) {
    sizes.push_back(rows);
    runs.push_back(std::make_unique<BareRun>(path, rows, columns, out.dims[1], in.name.c_str(),
                                             out.name.c_str()));
  }
  using Successor = InFlight::Successor;
  Side by_itself("in_flight_by_completion", Successor::kByItself, path, options, row);
  Side by_thread("in_flight_by_thread", Successor::kByThread, path, options, row);
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
  std::vector<double> over_run_us;
  std::vector<double> round_trips_ns;
  for (int slice = 0; slice < kSlices; ++slice) {
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      bare[i].push_back(rate(sizes[i], *runs[i]));
    }
    by_itself.rates.push_back(by_itself.in_flight.rate_for_a_slice());
    by_thread.rates.push_back(by_thread.in_flight.rate_for_a_slice());
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
