#include <string>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory/faulty_devices.h"
#include "schedule/echo_model.h"
#include "serving/model.h"

namespace pyruntime {
namespace {

Status infer(ModelVersion& model, const Tensor& tensor) {
  const RequestRef request = model.new_request();
  request->inputs[0] = tensor;
  return model.infer(request);
}

}  // namespace

TEST_CASE("an input is held against the signature before it is accepted") {
  const auto model = load_echo();
  Numbers numbers = rows_of_four(2, 0);
  const Tensor good = numbers.view();

  Tensor wrong_type = good;
  wrong_type.type = DataType::kFloat64;
  Tensor wrong_rank = good;
  wrong_rank.shape = Shape{8};
  Tensor wrong_dimension = good;
  wrong_dimension.shape = Shape{1, 8};
  Tensor negative = good;
  negative.shape = Shape{-2, 4};
  Tensor overflowing = good;
  overflowing.shape = Shape{int64_t{1} << 62, 4};

  CHECK(infer(*model, wrong_type).message() ==
        "input 'input': expected int64[*, 4], got float64[2, 4]");
  CHECK(infer(*model, wrong_rank).message() == "input 'input': expected int64[*, 4], got int64[8]");
  CHECK(infer(*model, wrong_dimension).message() ==
        "input 'input': expected int64[*, 4], got int64[1, 8]");
  CHECK(infer(*model, negative).code() == ErrorCode::kInvalidInput);
  CHECK(infer(*model, overflowing).code() == ErrorCode::kInvalidInput);
  CHECK(infer(*model, Tensor{}).message() == "input 'input' is missing: expected int64[*, 4]");
  CHECK(infer(*model, good).ok());
  CHECK(model->stats().accepted == 1);
}

TEST_CASE("inputs are put in their place by name, once each") {
  const auto model = load_echo();
  Numbers numbers = rows_of_four(1, 0);
  const RequestRef request = model->new_request();
  CHECK(model->set_input(*request, "inptu", numbers.view()).message() ==
        "input 'inptu' is unknown: expected 'input'");
  CHECK(model->set_input(*request, "input", numbers.view()).ok());
  CHECK(model->set_input(*request, "input", numbers.view()).message() ==
        "input 'input' is given twice");
  CHECK(model->want_output(*request, "nothing").code() == ErrorCode::kInvalidInput);
  CHECK(model->infer(request).ok());
}

TEST_CASE("rows must agree between inputs") {
  const auto model = load_echo({.inputs = {"a", "b"}});
  Numbers two = rows_of_four(2, 0);
  Numbers three = rows_of_four(3, 0);
  const RequestRef request = model->new_request();
  request->inputs[0] = two.view();
  request->inputs[1] = three.view();
  CHECK(model->infer(request).message() == "input 'b': expected 2 rows as in input 'a', got 3");
}

TEST_CASE("a request of more rows than the model allows is refused") {
  EchoSettings settings;
  settings.batching.request_rows = 2;
  const auto model = load_echo(settings);
  Numbers most = rows_of_four(2, 0);
  CHECK(infer(*model, most.view()).ok());
  Numbers more = rows_of_four(3, 0);
  const Status status = infer(*model, more.view());
  CHECK(status.code() == ErrorCode::kInvalidInput);
  CHECK(status.message() ==
        "expected at most 2 rows in a request (max_batch_size, batching.request_rows), got 3");
}

TEST_CASE("a request has the model's priority until it is given another") {
  EchoSettings settings;
  settings.batching.default_priority = Priority::kLow;
  const auto model = load_echo(settings);
  model->new_request()->priority = Priority::kHigh;
  CHECK(model->new_request()->priority == Priority::kLow);
  CHECK(load_echo()->new_request()->priority == Priority::kNormal);
}

TEST_CASE("an output that is not wanted is not there") {
  const auto model = load_echo({.inputs = {"a", "b"}});
  Numbers numbers = rows_of_four(1, 5);
  const RequestRef request = model->new_request();
  request->inputs[0] = numbers.view();
  request->inputs[1] = numbers.view();
  REQUIRE(model->want_output(*request, model->signature().outputs[1].name).ok());
  REQUIRE(model->infer(request).ok());
  CHECK(request->outputs[0].data == nullptr);
  CHECK(request->outputs[1].data != nullptr);
}

TEST_CASE("a small result that is kept is not written again") {
  const auto model = load_echo({.inputs = {"a", "b"}});
  std::vector<Tensor> kept;
  for (int64_t i = 0; i < 50; ++i) {
    Numbers first = rows_of_four(1, i);
    Numbers second = rows_of_four(1, -i);
    const RequestRef request = model->new_request();
    request->inputs[0] = first.view();
    request->inputs[1] = second.view();
    REQUIRE(model->infer(request).ok());
    kept.push_back(request->outputs[static_cast<std::size_t>(i) % 2]);
  }
  for (int64_t i = 0; i < 50; ++i) {
    const auto first = i % 2 == 0 ? i : -i;
    CHECK(kept[static_cast<std::size_t>(i)].data_as<int64_t>()[3] == first + 3);
  }
}

TEST_CASE("large results are slices that outlive their request and their model") {
  EchoSettings settings;
  settings.dims = {-1, 100'000};
  auto model = load_echo(settings);
  std::vector<int64_t> values(100'000, 42);
  Numbers numbers(values, Shape{1, 100'000});
  Tensor kept;
  {
    const RequestRef request = ask(*model, numbers);
    REQUIRE(model->infer(request).ok());
    kept = request->outputs[0];
  }
  model.reset();
  CHECK(kept.data_as<int64_t>()[99'999] == 42);
}

TEST_CASE("an exhausted pool fails the request and not the model") {
  test::for_each_faulty_device([](const test::FaultyDevice& faulty) {
    ModelOptions options;
    options.session.engine = "echo";
    TensorSpec spec;
    spec.name = "input";
    spec.type = DataType::kInt64;
    spec.dims = {-1, -1};
    spec.symbols = {"", ""};
    options.session.echo_inputs = {spec};
    options.pool_capacity_bytes = 1 << 20;
    options.instances = {{faulty.device, 1}};
    const auto model = ModelVersion::load("small", 1, {}, options);
    std::vector<int64_t> many(1 << 18);
    Numbers large(many, Shape{1, 1 << 18});
    const Status status = infer(*model, large.view());
    CHECK(status.code() == ErrorCode::kOverloaded);
    MESSAGE(status.message());
    CHECK(model->pool_stats().exhaustions > 0);
    Numbers small({1, 2, 3}, Shape{1, 3});
    CHECK(infer(*model, small.view()).ok());
  });
}

TEST_CASE("a device that fails gives errors and then works again") {
  test::for_each_faulty_device([](const test::FaultyDevice& faulty) {
    const Device device = faulty.device;
    EchoSettings settings;
    settings.instances = {{device, 1}};
    const auto model = load_echo(settings);
    Numbers numbers = rows_of_four(1, 3);
    faulty.set_faults({.fail_after = 0});
    const Status status = infer(*model, numbers.view());
    CHECK_FALSE(status.ok());
    faulty.set_faults({});
    const RequestRef request = ask(*model, numbers);
    REQUIRE(model->infer(request).ok());
    CHECK(answer(*request) == numbers.values);
  });
}

TEST_CASE("options out of range are refused by name") {
  EchoSettings settings;
  settings.batching.max_rows = -1;
  try {
    load_echo(settings);
    FAIL("expected an error");
  } catch (const Error& error) {
    CHECK(std::string(error.what()) ==
          "model 'echo' version 1: batching.max_rows: expected 1 to 65536, or 0 to have it found, "
          "got -1");
  }
}

TEST_CASE("each of many outputs can be wanted") {
  ModelOptions options;
  options.session.engine = "echo";
  TensorSpec spec;
  spec.type = DataType::kInt64;
  spec.dims = {-1, 4};
  spec.symbols = {"", ""};
  for (int i = 0; i < 66; ++i) {
    spec.name = "input_" + std::to_string(i);
    options.session.echo_inputs.push_back(spec);
  }
  const auto model = ModelVersion::load("many", 1, {}, options);
  Numbers numbers = rows_of_four(1, 5);
  const RequestRef request = model->new_request();
  for (Tensor& input : request->inputs) input = numbers.view();
  for (const TensorSpec& output : model->signature().outputs) {
    REQUIRE(model->want_output(*request, output.name).ok());
  }
  REQUIRE(model->infer(request).ok());
  for (const Tensor& output : request->outputs) CHECK(output.data != nullptr);
}

TEST_CASE("strings are refused on a device that the host cannot read") {
  ModelOptions options;
  options.session.engine = "echo";
  TensorSpec spec;
  spec.name = "text";
  spec.type = DataType::kString;
  spec.dims = {-1};
  spec.symbols = {""};
  options.session.echo_inputs = {spec};
  options.instances = {{Device{DeviceKind::kSimulated, 0}, 1}};
  try {
    ModelVersion::load("text", 1, {}, options);
    FAIL("expected an error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kUnimplemented);
  }
}

TEST_CASE("an input that lies on a device is refused by name") {
  const auto model = load_echo();
  Numbers numbers = rows_of_four(1, 5);
  Tensor tensor = numbers.view();
  tensor.device = Device{DeviceKind::kCuda, 0};
  CHECK(infer(*model, tensor).message() == "input 'input': expected memory on 'cpu', got 'cuda:0'");
}

TEST_CASE("warm-up runs every instance, and is in nobody's statistics") {
  EchoSettings settings;
  settings.instances = {{Device{}, 2}};
  const auto model = load_echo(settings);
  Numbers numbers = rows_of_four(2, 3);
  CHECK(infer(*model, numbers.view()).ok());
  CHECK(model->warm_up(2, 3).ok());
  REQUIRE(model->costs().size() == 1);
  CHECK(model->costs()[0].points[0].count == 1 + 6);
  const SchedulerStatsSnapshot stats = model->stats();
  CHECK(stats.accepted == 1);
  CHECK(stats.completed == 1);
  CHECK(stats.batches == 1);
  CHECK(stats.total.count == 1);
  CHECK(stats.run.count == 1);
  CHECK(stats.by_batch_rows.size() == 1);
  CHECK(model->total().count == 1);
  CHECK(model->outstanding() == 0);
  CHECK(model->warm_up(0, 1).code() == ErrorCode::kInvalidInput);
}

TEST_CASE("a model is refused in a child of fork and works on in the parent") {
  const auto model = load_echo();
  Numbers numbers = rows_of_four(1, 3);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const Status status = infer(*model, numbers.view());
    _exit(status.code() == ErrorCode::kUnavailable ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(infer(*model, numbers.view()).ok());
}

}  // namespace pyruntime
