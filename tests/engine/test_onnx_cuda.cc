// Sessions whose inputs and outputs lie on a GPU: here of a fake driver and a fake
// provider, in a process of its own.
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "engine/onnx_fixture.h"
#include "engine/onnx_graphs.h"
#include "engine/onnx_on_fake_gpu.h"
#include "memory/fake_driver.h"

namespace pyruntime {
namespace {

using test::appended;
using test::has_fake_gpu;
using test::kGpu;
using test::Leaves;

SessionOptions on_gpu() {
  SessionOptions options;
  options.device = kGpu;
  return options;
}

// Floats on the device, written and read through a session's stream.
class DeviceFloats {
 public:
  DeviceFloats(Stream& stream, Shape shape, std::vector<float> values)
      : stream_(stream), values_(std::move(values)) {
    tensor_.type = DataType::kFloat32;
    tensor_.device = kGpu;
    tensor_.shape = shape;
    tensor_.data = static_cast<std::byte*>(backend_.allocate(bytes()));
    write();
  }
  ~DeviceFloats() {
    (void)stream_.synchronize();
    backend_.free(tensor_.data, bytes());
  }
  DeviceFloats(const DeviceFloats&) = delete;
  DeviceFloats& operator=(const DeviceFloats&) = delete;

  void set(std::vector<float> values) {
    values_ = std::move(values);
    write();
  }
  std::vector<float> read() { return read(tensor_); }
  std::vector<float> read(const Tensor& tensor) {
    std::vector<float> values(tensor.size_bytes() / sizeof(float));
    stream_.copy(values.data(), tensor.data, tensor.size_bytes(), CopyKind::kDeviceToHost);
    CHECK(stream_.synchronize().ok());
    return values;
  }
  const Tensor& tensor() const { return tensor_; }

 private:
  std::size_t bytes() const { return values_.size() * sizeof(float); }
  void write() {
    stream_.copy(tensor_.data, values_.data(), bytes(), CopyKind::kHostToDevice);
    CHECK(stream_.synchronize().ok());
  }

  DeviceBackend& backend_ = open_device(kGpu);
  Stream& stream_;
  std::vector<float> values_;
  Tensor tensor_;
};

std::vector<float> ramp(std::size_t count, float first) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = first + static_cast<float>(i) / 64;
  return values;
}

// What the CPU answers.
std::vector<float> expected(Shape shape, std::vector<float> values) {
  const auto session = load_model("mlp_64_256_256_10");
  const auto stream = open_device(Device{}).create_stream();
  std::vector<Tensor> inputs{view(shape, values)};
  std::vector<Tensor> outputs(1);
  REQUIRE(session->run(*stream, inputs, outputs, kAllOutputs).ok());
  return elements<float>(outputs[0]);
}

}  // namespace

TEST_CASE("a run reads and writes the device's memory, on the session's stream") {
  if (!has_fake_gpu()) return;
  const uint64_t misuses = test::fake_driver()->misuse_count();
  const uint64_t used = test::fake_driver()->used_bytes(0);
  {
    const auto session = load_model("mlp_64_256_256_10", on_gpu());
    CHECK(session->device() == kGpu);
    CHECK_FALSE(session->is_shareable());
    CHECK_FALSE(session->keeps_to_thread());
    Stream& stream = *session->stream();
    const std::vector<std::string> lines = appended();
    REQUIRE(lines.size() == 1);
    const std::string address =
        std::to_string(reinterpret_cast<std::uintptr_t>(stream.native_handle()));
    CHECK(lines[0] == "CUDAExecutionProvider device_id=0 user_compute_stream=" + address);

    const std::vector<float> asked = ramp(3 * 64, 1);
    DeviceFloats input(stream, Shape{3, 64}, asked);
    DeviceFloats given(stream, Shape{3, 10}, std::vector<float>(30));
    const auto control = session->create_control();
    std::vector<Tensor> outputs{given.tensor()};
    REQUIRE(session->run(stream, {&input.tensor(), 1}, outputs, kAllOutputs, control.get()).ok());
    CHECK(given.read() == expected({3, 64}, asked));

    // Memory of the engine's own.
    std::vector<Tensor> made(1);
    REQUIRE(session->run(stream, {&input.tensor(), 1}, made, kAllOutputs).ok());
    CHECK(made[0].device == kGpu);
    CHECK(made[0].shape == Shape{3, 10});
    CHECK(input.read(made[0]) == expected({3, 64}, asked));

    // And a bound run, again and again.
    const auto bound = session->bind({&input.tensor(), 1}, {&given.tensor(), 1});
    REQUIRE(bound != nullptr);
    for (const float first : {2.0F, 5.0F}) {
      input.set(ramp(3 * 64, first));
      REQUIRE(bound->run(stream, control.get()).ok());
      CHECK(given.read() == expected({3, 64}, ramp(3 * 64, first)));
    }
    CHECK(appended() == std::vector<std::string>(4, "run"));
  }
  CHECK(test::fake_driver()->misuse_count() == misuses);
  CHECK(test::fake_driver()->used_bytes(0) == used);
}

TEST_CASE("a run on another stream than the session's is refused") {
  if (!has_fake_gpu()) return;
  const auto session = load_model("mlp_64_256_256_10", on_gpu());
  const auto other = open_device(kGpu).create_stream();
  DeviceFloats input(*session->stream(), Shape{1, 64}, ramp(64, 1));
  std::vector<Tensor> outputs(1);
  const Status status = session->run(*other, {&input.tensor(), 1}, outputs, kAllOutputs);
  CHECK(status.code() == ErrorCode::kInvalidInput);
  CHECK(contains(status.message(), "expected the session's own stream"));
  (void)appended();
}

TEST_CASE("an output given memory of another shape is told from a caller's mistake") {
  if (!has_fake_gpu()) return;
  const auto session = load_model("mlp_64_256_256_10", on_gpu());
  DeviceFloats input(*session->stream(), Shape{1, 64}, ramp(64, 1));
  DeviceFloats given(*session->stream(), Shape{1, 11}, std::vector<float>(11));
  std::vector<Tensor> outputs{given.tensor()};
  CHECK(session->run(*session->stream(), {&input.tensor(), 1}, outputs, kAllOutputs).code() ==
        ErrorCode::kEngineError);
  (void)appended();
}

TEST_CASE("a captured run is replayed at its addresses, under a number of its own") {
  if (!has_fake_gpu()) return;
  SessionOptions options = on_gpu();
  options.captures_graphs = true;
  {
    const auto session = load_model("mlp_64_256_256_10", options);
    CHECK(session->keeps_to_thread());
    CHECK(contains(appended().at(0), " enable_cuda_graph=1"));
    Stream& stream = *session->stream();
    DeviceFloats one(stream, Shape{1, 64}, ramp(64, 1));
    DeviceFloats one_out(stream, Shape{1, 10}, std::vector<float>(10));
    DeviceFloats four(stream, Shape{4, 64}, ramp(256, 1));
    DeviceFloats four_out(stream, Shape{4, 10}, std::vector<float>(40));
    const auto first = session->capture(stream, {&one.tensor(), 1}, {&one_out.tensor(), 1}, 1);
    const auto second = session->capture(stream, {&four.tensor(), 1}, {&four_out.tensor(), 1}, 2);
    CHECK(appended() == std::vector<std::string>{"capture 1", "replay 1", "replay 1", "capture 2",
                                                 "replay 2", "replay 2"});
    const auto control = session->create_control();
    for (const float start : {3.0F, 4.0F}) {
      one.set(ramp(64, start));
      four.set(ramp(256, start));
      REQUIRE(first->run(stream, control.get()).ok());
      REQUIRE(second->run(stream, control.get()).ok());
      CHECK(one_out.read() == expected({1, 64}, ramp(64, start)));
      CHECK(four_out.read() == expected({4, 64}, ramp(256, start)));
    }
    // Others are no graphs.
    std::vector<Tensor> made(1);
    REQUIRE(session->run(stream, {&four.tensor(), 1}, made, kAllOutputs, control.get()).ok());
    CHECK(appended() ==
          std::vector<std::string>{"replay 1", "replay 2", "replay 1", "replay 2", "run"});
  }
  CHECK(appended() == std::vector<std::string>{"released 2"});
}

TEST_CASE("what cannot be captured is refused with the reason") {
  if (!has_fake_gpu()) return;
  SessionOptions options = on_gpu();
  options.captures_graphs = true;
  const auto reason = [&](const char* model) {
    const Error error = error_of([&] { load_model(model, options); });
    CHECK(error.code() == ErrorCode::kInvalidInput);
    return std::string(error.what());
  };
  CHECK(contains(reason("add_repeatedly"), "(Loop) decides while it runs what is run"));
  CHECK(contains(reason("identity_string"), "is of strings, which no GPU holds"));
  {
    const Leaves leaves("CUDA", "Relu");
    options.providers = {{.name = "cuda"}, {.name = "cpu"}};
    const std::string text = reason("mlp_64_256_256_10");
    CHECK(contains(text, "expected all nodes on CUDAExecutionProvider, got some on"));
    CHECK(contains(text, "CPUExecutionProvider: "));
    CHECK(contains(text, "Relu"));
  }
  options.providers = {{.name = "tensorrt"}, {.name = "cuda"}};
  CHECK(contains(reason("mlp_64_256_256_10"), "got some on TensorrtExecutionProvider"));

  SessionOptions on_cpu;
  on_cpu.captures_graphs = true;
  const Error error = error_of([&] { load_model("mlp_64_256_256_10", on_cpu); });
  CHECK(contains(error.what(), "cuda_graphs: expected instances on CUDA devices, got 'cpu'"));
  (void)appended();
}

TEST_CASE("options of a provider that would capture or move runs by themselves are refused") {
  for (const char* key : {"user_compute_stream", "has_user_compute_stream", "enable_cuda_graph",
                          "trt_cuda_graph_enable"}) {
    CAPTURE(key);
    SessionOptions options = on_gpu();
    options.providers = {{.name = "CUDAExecutionProvider", .options = {{key, "1"}}}};
    const Error error = error_of([&] { ort::on_stream(options, nullptr); });
    CHECK(error.code() == ErrorCode::kInvalidInput);
    CHECK(contains(error.what(), std::string(key) + ": expected none on a CUDA device"));
    options.providers[0].options[0].second = "0";
    CHECK(error_of([&] { ort::on_stream(options, nullptr); }).code() == ErrorCode::kOk);
  }
}

TEST_CASE("each provider of a GPU is told the stream, the CPU's nothing") {
  SessionOptions options = on_gpu();
  options.captures_graphs = true;
  options.providers = {{.name = "tensorrt"}, {.name = "cuda"}, {.name = "cpu"}};
  int stream = 0;
  const auto told = ort::on_stream(options, &stream).providers;
  const std::string address = std::to_string(reinterpret_cast<std::uintptr_t>(&stream));
  using Options = std::vector<std::pair<std::string, std::string>>;
  CHECK(told[0].options == Options{{"device_id", "0"},
                                   {"user_compute_stream", address},
                                   {"has_user_compute_stream", "1"}});
  CHECK(told[1].options ==
        Options{{"device_id", "0"}, {"user_compute_stream", address}, {"enable_cuda_graph", "1"}});
  CHECK(told[2].options.empty());
}

}  // namespace pyruntime
