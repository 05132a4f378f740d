#include <chrono>
#include <cstring>
#include <thread>

#include <doctest/doctest.h>

#include "engine/onnx_fixture.h"
#include "engine/session.h"
#include "memory/buffer_pool.h"
#include "memory/device.h"
#include "memory/faulty_devices.h"

namespace pyruntime {
namespace {

using namespace std::chrono_literals;

SessionOptions echo_options(std::vector<TensorSpec> inputs, Device device = {}) {
  SessionOptions options;
  options.engine = "echo";
  options.device = device;
  options.echo_inputs = std::move(inputs);
  return options;
}

TensorSpec spec(std::string name, DataType type, std::vector<int64_t> dims) {
  TensorSpec made;
  made.name = std::move(name);
  made.type = type;
  made.symbols.resize(dims.size());
  made.dims = std::move(dims);
  return made;
}

const TensorSpec kRows = spec("x", DataType::kFloat32, {-1, 4});

TEST_CASE("echo: outputs are the inputs, named output_<i>") {
  const auto session =
      load_session({}, echo_options({kRows, spec("names", DataType::kString, {-1})}));
  const Signature& signature = session->signature();
  CHECK(signature.outputs[0].name == "output_0");
  CHECK(signature.outputs[1].to_string() == "string[*]");
  CHECK(signature.is_batchable);

  std::vector<float> values{1, 2, 3, 4};
  const std::string text("a\0b", 3);
  std::vector<StringRef> refs{{text.data(), text.size()}};
  std::vector<Tensor> inputs{view({1, 4}, values), view(DataType::kString, Shape{1}, refs)};
  std::vector<Tensor> outputs(2);
  const auto stream = open_device(Device{}).create_stream();
  REQUIRE(session->run(*stream, inputs, outputs, kAllOutputs).ok());
  CHECK(elements<float>(outputs[0]) == values);
  CHECK(outputs[0].data != inputs[0].data);
  CHECK(strings(outputs[1]) == std::vector<std::string>{text});
  CHECK(elements<StringRef>(outputs[1])[0].data != text.data());
}

TEST_CASE("echo: rows are batchable by the rule of all engines") {
  const auto is_batchable = [](std::vector<TensorSpec> inputs) {
    return load_session({}, echo_options(std::move(inputs)))->signature().is_batchable;
  };
  CHECK_FALSE(is_batchable({spec("x", DataType::kInt8, {2, 4})}));
  CHECK_FALSE(is_batchable({spec("x", DataType::kInt8, {})}));
  CHECK_FALSE(is_batchable({kRows, spec("s", DataType::kInt8, {})}));
  TensorSpec named = kRows;
  named.symbols[0] = "N";
  CHECK(is_batchable({named, kRows, named}));
  TensorSpec other = kRows;
  other.symbols[0] = "M";
  CHECK_FALSE(is_batchable({named, other}));
}

TEST_CASE("echo: memory given for an output is used, and refused where its shape is wrong") {
  const auto session = load_session({}, echo_options({kRows, kRows}));
  const auto stream = open_device(Device{}).create_stream();
  std::vector<float> values{1, 2, 3, 4};
  std::vector<float> room(8);
  std::vector<Tensor> inputs{view({1, 4}, values), view({1, 4}, values)};
  std::vector<Tensor> outputs{view({1, 4}, room), Tensor{}};
  REQUIRE(session->run(*stream, inputs, outputs, 0b01).ok());
  CHECK(outputs[1].data == nullptr);
  CHECK(std::vector<float>(room.begin(), room.begin() + 4) == values);

  outputs[0] = view({2, 4}, room);
  const Status status = session->run(*stream, inputs, outputs, 0b01);
  CHECK(status.code() == ErrorCode::kEngineError);
  CHECK(contains(status.message(), "'output_0': expected float32[1, 4]"));
  CHECK(session->run(*stream, {}, outputs, kAllOutputs).code() == ErrorCode::kInvalidInput);
}

TEST_CASE("echo: a bound run repeats on what the memory then holds") {
  const auto session = load_session({}, echo_options({kRows}));
  const auto stream = open_device(Device{}).create_stream();
  std::vector<float> values{1, 2, 3, 4};
  std::vector<float> room(4);
  std::vector<Tensor> inputs{view({1, 4}, values)};
  std::vector<Tensor> outputs{view({1, 4}, room)};
  const auto bound = session->bind(inputs, outputs);
  REQUIRE(bound != nullptr);
  for (int i = 0; i < 3; ++i) {
    values[0] = static_cast<float>(i);
    REQUIRE(bound->run(*stream).ok());
    CHECK(room == values);
  }
  outputs[0].data = nullptr;
  CHECK(session->bind(inputs, outputs) == nullptr);
}

TEST_CASE("echo: it runs on a device whose memory the host cannot read") {
  test::for_each_faulty_device([](const test::FaultyDevice& faulty) {
    const Device device = faulty.device;
    DeviceBackend& backend = open_device(device);
    SessionOptions options = echo_options({kRows}, device);
    options.config = {{"echo.fail_value", "-1"}, {"echo.delay_us", "1000"}};
    const auto session = load_session({}, options);
    CHECK(session->device() == device);
    const auto stream = backend.create_stream();
    BufferPool device_pool(backend, {.placement = BufferPool::Placement::kDevice});
    BufferPool host_pool(backend, {.placement = BufferPool::Placement::kHost});

    Status status;
    const std::size_t size_bytes = 4 * sizeof(float);
    const Buffer host = host_pool.allocate(size_bytes, &status);
    const Buffer back = host_pool.allocate(size_bytes, &status);
    const Buffer on_device = device_pool.allocate(size_bytes, &status);
    REQUIRE(status.ok());
    const auto run = [&](float first) {
      const std::array<float, 4> values{first, 2, 3, 4};
      std::memcpy(host.data(), values.data(), size_bytes);
      stream->copy(on_device.data(), host.data(), size_bytes, CopyKind::kHostToDevice);
      Tensor input{.data = on_device.data(), .device = device, .shape = {1, 4}};
      std::vector<Tensor> outputs(1);
      Status ran = session->run(*stream, {&input, 1}, outputs, kAllOutputs);
      if (!ran.ok()) return ran;
      CHECK(outputs[0].device == device);
      stream->copy(back.data(), outputs[0].data, size_bytes, CopyKind::kDeviceToHost);
      ran = stream->synchronize();
      CHECK(std::memcmp(back.data(), values.data(), size_bytes) == 0);
      return ran;
    };
    CHECK(run(1).ok());
    CHECK(run(-1).code() == ErrorCode::kEngineError);
    CHECK(run(5).ok());
  });
}

TEST_CASE("echo: a run fails when its first input holds the value to fail on") {
  SessionOptions options = echo_options({kRows});
  options.config = {{"echo.fail_value", "7.5"}};
  const auto session = load_session({}, options);
  const auto stream = open_device(Device{}).create_stream();
  std::vector<float> values{1, 2, 3, 4, 5, 6, 7.5F, 8};
  std::vector<Tensor> inputs{view({2, 4}, values)};
  std::vector<Tensor> outputs(1);
  const Status status = session->run(*stream, inputs, outputs, kAllOutputs);
  CHECK(status.code() == ErrorCode::kEngineError);
  CHECK(contains(status.message(), "7.5"));
  values[6] = 0;
  CHECK(session->run(*stream, inputs, outputs, kAllOutputs).ok());

  options.echo_inputs = {spec("s", DataType::kString, {-1})};
  options.config = {{"echo.fail_value", "bad"}};
  const auto texts = load_session({}, options);
  std::vector<StringRef> refs{{"good", 4}, {"bad", 3}};
  inputs = {view(DataType::kString, Shape{2}, refs)};
  outputs = {Tensor{}};
  CHECK(texts->run(*stream, inputs, outputs, kAllOutputs).code() == ErrorCode::kEngineError);
}

TEST_CASE("echo: a run takes as long as it is told to") {
  SessionOptions options = echo_options({kRows});
  options.config = {{"echo.delay_us", "2000"}};
  const auto session = load_session({}, options);
  const auto stream = open_device(Device{}).create_stream();
  std::vector<float> values{1, 2, 3, 4};
  std::vector<Tensor> inputs{view({1, 4}, values)};
  std::vector<Tensor> outputs(1);
  const auto begin = std::chrono::steady_clock::now();
  CHECK(session->run(*stream, inputs, outputs, kAllOutputs).ok());
  CHECK(std::chrono::steady_clock::now() - begin >= 2ms);
}

TEST_CASE("echo: a run that is terminated ends early as cancelled") {
  for (const Device device : test::a_device_of_each_kind()) {
    SessionOptions options = echo_options({spec("x", DataType::kInt64, {-1})}, device);
    options.config = {{"echo.delay_us", "60000000"}};
    const auto session = load_session({}, options);
    DeviceBackend& backend = open_device(device);
    const auto stream = backend.create_stream();
    const auto event = backend.create_event();
    const auto control = session->create_control();
    BufferPool pool(backend, {.placement = BufferPool::Placement::kDevice});
    const Buffer memory = pool.allocate(8, nullptr);
    Tensor input;
    input.type = DataType::kInt64;
    input.device = device;
    input.shape = Shape{1};
    input.data = memory.data();
    std::vector<Tensor> outputs(1);
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      control->terminate();
    });
    const Status status = session->run(*stream, {&input, 1}, outputs, kAllOutputs, control.get());
    stream->record(*event);
    CHECK(event->wait().ok());  // well within the minute
    CHECK(status.code() == (backend.is_host_accessible() ? ErrorCode::kCancelled : ErrorCode::kOk));
    other.join();
  }
}

TEST_CASE("echo: options that mean nothing are refused") {
  const auto code = [](const SessionOptions& options) {
    return error_of([&] { load_session({}, options); }).code();
  };
  CHECK(code(echo_options({})) == ErrorCode::kInvalidInput);
  SessionOptions options = echo_options({kRows});
  options.config = {{"echo.speed", "1"}};
  CHECK(code(options) == ErrorCode::kInvalidInput);
  options.config = {{"echo.delay_us", "soon"}};
  CHECK(code(options) == ErrorCode::kInvalidInput);
  options.config = {{"echo.delay_us", "-5"}};
  CHECK(code(options) == ErrorCode::kInvalidInput);
  options.config = {{"echo.fail_value", "bad"}};
  CHECK(code(options) == ErrorCode::kInvalidInput);
}

}  // namespace
}  // namespace pyruntime
