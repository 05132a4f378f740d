// The limits of a GPU, each beside its bound, measured in turns in one run.
//
//   bench_gpu [--device cuda:0] [--model MODEL.onnx] [--mib 64] [--rows 64] [--turns 15]
//
//   pinned_to_device, pinned_to_host  the core's copies beside the driver's own, page-locked
//   large_batches_echo                copies alone; beside the longer of copy and compute
//   large_batches                     the same of MODEL, which needs ONNX Runtime for CUDA
//   gpu_time_share                    of MODEL offline: compute beside all of the time
//   small_row, small_row_graph        one row of MODEL beside RunWithBinding and its copies
//
// MODEL: one float32 input [rows, n] and one float32 output [rows, m]; PYRUNTIME_ONNXRUNTIME is the
// path of libonnxruntime.so.*, PYRUNTIME_CUDA_DRIVER of another driver than the system's. --mib: of
// a batch without MODEL. One JSON line per figure; "SKIPPED" with the reason where it cannot be
// measured here, and no verdict on a device that is not a GPU.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <dlfcn.h>

#include "../program.h"
#include "copies.h"
#include "memory/buffer_pool.h"
#include "memory/cuda_driver.h"
#include "memory/device_cuda.h"
#include "probe/closed_loop.h"
#include "schedule/overlap.h"
#include "serving/model.h"

namespace pyruntime::bench {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20U;
struct Settings {
  Device device;
  std::string model;
  std::size_t batch_bytes = 0;
  int64_t rows = 0;
  int turns = 0;
  bool is_gpu = false;  // not a fake one: figures mean something
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void print_skipped(const char* figure, const std::string& reason) {
  std::string text;
  for (const char c : reason) {
    if (c == '"' || c == '\\') text += '\\';
    text += c == '\n' ? ' ' : c;
  }
  std::printf("{\"figure\": \"%s\", \"verdict\": \"SKIPPED\", \"reason\": \"%s\"}\n", figure,
              text.c_str());
}

void print(const Settings& settings, const char* figure, const char* unit, double got, double bound,
           const char* compared, double value, double limit, bool holds,
           const std::string& more = {}) {
  std::printf(
      "{\"figure\": \"%s\", \"unit\": \"%s\", \"got\": %.6g, \"bound\": %.6g, \"%s\": %.4g, "
      "\"limit\": %g, \"device\": \"%s\"%s, \"verdict\": \"%s\"}\n",
      figure, unit, got, bound, compared, value, limit, settings.device.name().c_str(),
      more.c_str(),
      !settings.is_gpu ? "not judged: no GPU"
      : holds          ? "holds"
                       : "misses");
}

// --- copies

void measure_copies(const Settings& settings, const char* figure, bool to_device) {
  PlainCopies plain(settings.device, settings.batch_bytes);
  CoreCopies core(settings.device, settings.batch_bytes);
  std::vector<double> ratios;
  double best_plain = 0;
  double best_core = 0;
  for (int turn = 0; turn < settings.turns; ++turn) {
    const double bound = plain.rate(to_device);
    const double got = core.rate(to_device);
    ratios.push_back(got / bound);
    best_plain = std::max(best_plain, bound);
    best_core = std::max(best_core, got);
  }
  const double ratio = median(ratios);
  print(settings, figure, "GB/s", best_core / 1e9, best_plain / 1e9, "ratio", ratio, 0.95,
        ratio >= 0.95);
}

// --- batches

struct Model {
  ModelSource source;
  ModelOptions options;
};

Model echo_model(const Settings& settings) {
  Model model;
  model.options.session.engine = "echo";
  TensorSpec& input = model.options.session.echo_inputs.emplace_back();
  input.name = "input";
  const std::size_t row = settings.batch_bytes / static_cast<std::size_t>(settings.rows);
  input.dims = {-1, static_cast<int64_t>(row / sizeof(float))};
  input.symbols.resize(2);
  return model;
}

Model onnx_model(const Settings& settings) {
  const char* const library = std::getenv("PYRUNTIME_ONNXRUNTIME");
  if (library == nullptr) {
    throw Error(ErrorCode::kUnavailable,
                "PYRUNTIME_ONNXRUNTIME is not the path of libonnxruntime.so.* for CUDA");
  }
  if (!is_onnx_library_loaded()) configure_onnx_library({.path = library});
  Model model;
  model.source.path = settings.model;
  return model;
}

std::shared_ptr<ModelVersion> load(const Settings& settings, Model model) {
  model.options.instances = {{settings.device, 1}};
  model.options.batching.max_rows = settings.rows;
  model.options.pool_capacity_bytes = std::max<std::size_t>(16 * settings.batch_bytes, 256 * kMiB);
  return ModelVersion::load("bench", 1, model.source, model.options);
}

// A session of its own with memory for one batch of `rows`, on both sides.
class BareBatch {
 public:
  BareBatch(const Settings& settings, const Model& model, int64_t rows, bool is_graph)
      : backend_(open_device(settings.device)),
        host_pool_(backend_, {.capacity_bytes = std::size_t{1} << 34U}),
        device_pool_(backend_, {.placement = BufferPool::Placement::kDevice,
                                .capacity_bytes = std::size_t{1} << 34U}) {
    SessionOptions options = model.options.session;
    options.device = settings.device;
    options.captures_graphs = is_graph;
    session_ = load_session(model.source, options);
    made_ = session_->stream() == nullptr ? backend_.create_stream() : nullptr;
    input_ = tensor_of(session_->signature().inputs[0], rows);
    output_ = tensor_of(session_->signature().outputs[0], rows);
    for (auto [tensor, host, device] : {std::tuple{&input_, &host_input_, &device_input_},
                                        {&output_, &host_output_, &device_output_}}) {
      Status status;
      *host = host_pool_.allocate(tensor->size_bytes(), &status);
      status.throw_if_failed();
      *device = device_pool_.allocate(tensor->size_bytes(), &status);
      status.throw_if_failed();
      std::fill_n(host->data(), tensor->size_bytes(), std::byte{0});
      tensor->data = device->data();
      tensor->device = settings.device;
      stream().copy(device->data(), host->data(), tensor->size_bytes(), CopyKind::kHostToDevice);
    }
    stream().synchronize().throw_if_failed();
    run_ = is_graph ? session_->capture(stream(), {&input_, 1}, {&output_, 1}, 1)
                    : session_->bind({&input_, 1}, {&output_, 1});
    if (run_ == nullptr) throw Error(ErrorCode::kEngineError, "the model cannot be bound");
  }
  ~BareBatch() { (void)stream().synchronize(); }
  BareBatch(const BareBatch&) = delete;
  BareBatch& operator=(const BareBatch&) = delete;

  std::size_t input_bytes() const { return input_.size_bytes(); }
  std::size_t output_bytes() const { return output_.size_bytes(); }

  // Seconds of a run, several of them given at once.
  double compute_seconds() {
    return seconds_of([&] {
             for (int i = 0; i < kCopies; ++i) run_->run(stream()).throw_if_failed();
             stream().synchronize().throw_if_failed();
           }) /
           kCopies;
  }
  // Of one run with its copies, waited for.
  double whole_seconds() {
    return seconds_of([&] {
      stream().copy(device_input_.data(), host_input_.data(), input_bytes(),
                    CopyKind::kHostToDevice);
      run_->run(stream()).throw_if_failed();
      stream().copy(host_output_.data(), device_output_.data(), output_bytes(),
                    CopyKind::kDeviceToHost);
      stream().synchronize().throw_if_failed();
    });
  }

 private:
  static Tensor tensor_of(const TensorSpec& spec, int64_t rows) {
    Tensor tensor;
    tensor.type = spec.type;
    tensor.shape = Shape(spec.dims);
    for (std::size_t axis = 0; axis < spec.dims.size(); ++axis) {
      if (spec.dims[axis] < 0) tensor.shape[axis] = axis == 0 ? rows : 1;
    }
    return tensor;
  }
  Stream& stream() { return made_ == nullptr ? *session_->stream() : *made_; }

  DeviceBackend& backend_;
  BufferPool host_pool_;
  BufferPool device_pool_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Stream> made_;  // where the session has none of its own
  Tensor input_, output_;
  Buffer host_input_, device_input_, host_output_, device_output_;
  std::unique_ptr<BoundRun> run_;
};

// Requests of a whole batch each.
struct Asked {
  Asked(const ModelVersion& model, int64_t rows) {
    const TensorSpec& spec = model.signature().inputs[0];
    tensor.type = spec.type;
    tensor.shape = Shape(spec.dims);
    for (std::size_t axis = 0; axis < spec.dims.size(); ++axis) {
      if (spec.dims[axis] < 0) tensor.shape[axis] = axis == 0 ? rows : 1;
    }
    memory.resize(tensor.size_bytes());
    tensor.data = memory.data();
  }
  std::vector<std::byte> memory;
  Tensor tensor;
};

struct Batches {
  double got = 0;      // seconds a batch, many waiting
  double copy = 0;     // the longer way of its plain copies
  double compute = 0;  // of its run
  std::string overlap;
};

Batches measure_batches(const Settings& settings, const Model& description) {
  BareBatch bare(settings, description, settings.rows, /*is_graph=*/false);
  PlainCopies in(settings.device, bare.input_bytes());
  PlainCopies out(settings.device, bare.output_bytes());
  const auto model = load(settings, description);
  model->warm_up(settings.rows, 2).throw_if_failed();
  const Asked asked(*model, settings.rows);
  ModelSender sender(*model, {&asked.tensor, 1});
  ClosedLoop<ModelSender> loop(sender, {.in_flight = 8});
  Batches batches;
  std::vector<double> got;
  std::vector<double> copies;
  std::vector<double> computes;
  for (int turn = 0; turn < settings.turns; ++turn) {
    copies.push_back(std::max(static_cast<double>(bare.input_bytes()) / in.rate(true),
                              static_cast<double>(bare.output_bytes()) / out.rate(false)));
    computes.push_back(bare.compute_seconds());
    const LoadResult result = loop.measure(std::chrono::milliseconds(200));
    got.push_back(1 / result.requests_per_s());
  }
  batches.got = median(got);
  batches.copy = median(copies);
  batches.compute = median(computes);
  for (const DeviceOverlap& one : model->overlaps()) {
    batches.overlap = kOverlapNames[static_cast<std::size_t>(one.measured.chosen)];
  }
  return batches;
}

void print_batches(const Settings& settings, const char* figure, const Batches& batches) {
  const double bound = std::max(batches.copy, batches.compute);
  const double ratio = bound / batches.got;
  char more[200];
  std::snprintf(more, sizeof(more),
                ", \"copy_us\": %.4g, \"compute_us\": %.4g, \"overlap\": \"%s\"",
                1e6 * batches.copy, 1e6 * batches.compute, batches.overlap.c_str());
  print(settings, figure, "us a batch", 1e6 * batches.got, 1e6 * bound, "ratio", ratio, 0.95,
        ratio >= 0.95, more);
}

void measure_small_row(const Settings& settings, const char* figure, bool is_graph) {
  const Model description = onnx_model(settings);
  BareBatch bare(settings, description, 1, is_graph);
  Model own = description;
  if (is_graph) own.options.graph_rows = {1};
  const auto model = load(settings, own);
  model->warm_up(1, 3).throw_if_failed();
  const Asked asked(*model, 1);
  // Each side asks again at once, as a caller in a loop does.
  const auto median_of = [](auto&& ask) {
    std::vector<double> seconds;
    seconds.reserve(100);
    for (int i = 0; i < 100; ++i) seconds.push_back(ask());
    return median(std::move(seconds));
  };
  std::vector<double> differences;
  std::vector<double> got;
  std::vector<double> bound;
  for (int turn = 0; turn < settings.turns; ++turn) {
    bound.push_back(median_of([&] { return bare.whole_seconds(); }));
    got.push_back(median_of([&] {
      const RequestRef request = make_request(*model, {&asked.tensor, 1});
      return seconds_of([&] { model->infer(request).throw_if_failed(); });
    }));
    differences.push_back(got.back() - bound.back());
  }
  const double more_us = 1e6 * median(differences);
  print(settings, figure, "us", 1e6 * median(got), 1e6 * median(bound), "more_us", more_us, 15,
        more_us <= 15);
}

// --- the program

bool is_fake_driver() {
  void* const library = dlopen(cuda::driver().path.c_str(), RTLD_NOW | RTLD_NOLOAD);
  return library != nullptr && dlsym(library, "fake_cuda_control") != nullptr;
}

void bench(Arguments& arguments) {
  Settings settings;
  settings.device = Device::parse(arguments.text("device", "cuda:0"));
  settings.model = model_path(arguments.text("model", "mlp_64_256_256_10"));
  settings.batch_bytes = static_cast<std::size_t>(arguments.number("mib", 64) * kMiB);
  settings.rows = arguments.whole("rows", 64);
  settings.turns = std::max(arguments.whole("turns", 15), 1);
  arguments.check_all_used();

  std::string absent;
  try {
    (void)open_device(settings.device);
    settings.is_gpu = settings.device.kind == DeviceKind::kCuda && !is_fake_driver();
  } catch (const Error& error) {
    absent = error.what();
  }
  const auto run = [&](const char* figure, const std::function<void()>& measure) {
    if (!absent.empty()) return print_skipped(figure, absent);
    try {
      measure();
    } catch (const Error& error) {
      // What is not here is no failure; all else is.
      if (error.code() != ErrorCode::kUnavailable) throw;
      print_skipped(figure, error.what());
    }
    std::fflush(stdout);
  };
  const auto require_cuda = [&] {
    if (settings.device.kind == DeviceKind::kCuda) return;
    throw Error(ErrorCode::kUnavailable,
                "models of ONNX Runtime run on no '" + settings.device.name() + "'");
  };
  run("pinned_to_device", [&] { measure_copies(settings, "pinned_to_device", true); });
  run("pinned_to_host", [&] { measure_copies(settings, "pinned_to_host", false); });
  run("large_batches_echo", [&] {
    print_batches(settings, "large_batches_echo", measure_batches(settings, echo_model(settings)));
  });
  std::optional<Batches> batches;
  run("large_batches", [&] {
    require_cuda();
    batches = measure_batches(settings, onnx_model(settings));
    print_batches(settings, "large_batches", *batches);
  });
  run("gpu_time_share", [&] {
    require_cuda();
    if (!batches) throw Error(ErrorCode::kUnavailable, "large_batches was not measured");
    const double share = batches->compute / batches->got;
    print(settings, "gpu_time_share", "us a batch", 1e6 * batches->got, 1e6 * batches->compute,
          "ratio", share, 0.95, share >= 0.95);
  });
  run("small_row", [&] {
    require_cuda();
    measure_small_row(settings, "small_row", false);
  });
  run("small_row_graph", [&] {
    require_cuda();
    measure_small_row(settings, "small_row_graph", true);
  });
}

constexpr const char* kUsage =
    "bench_gpu [--device cuda:0] [--model MODEL.onnx] [--mib 64] [--rows 64] [--turns 15]\n";

}  // namespace
}  // namespace pyruntime::bench

int main(int argc, char** argv) {
  using namespace pyruntime;  // NOLINT(google-build-using-namespace)
  if (argc == 2 && std::string(argv[1]) == "--help") {
    std::fputs(bench::kUsage, stdout);
    return 0;
  }
  try {
    const char* driver = std::getenv("PYRUNTIME_CUDA_DRIVER");
    if (driver == nullptr) driver = std::getenv("PYRUNTIME_TEST_CUDA_DRIVER");
    if (driver != nullptr) configure_cuda_driver(driver);
    bench::Arguments arguments(argc, argv);
    bench::bench(arguments);
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "bench_gpu: %s\n", error.status().to_string().c_str());
    return error.code() == ErrorCode::kInvalidInput ? 2 : 1;
  }
}
