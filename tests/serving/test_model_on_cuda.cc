// ONNX models whose batches run on a GPU's memory, from request to answer: over a
// fake driver and a fake provider, whose nodes the CPU computes.
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/onnx_fixture.h"
#include "engine/onnx_on_fake_gpu.h"
#include "memory/fake_driver.h"
#include "serving/model.h"

namespace pyruntime {
namespace {

using test::appended;
using test::has_fake_gpu;
using test::kGpu;

ModelOptions options_on(Device device, int instances = 1) {
  ModelOptions options;
  options.instances = {{device, instances}};
  options.batching.max_rows = 16;
  return options;
}

std::shared_ptr<ModelVersion> load(const std::string& name, const ModelOptions& options) {
  return ModelVersion::load(name, 1, {.path = model_path(name)}, options);
}

std::vector<float> rows_of(int64_t rows, int64_t columns, float first) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = first + static_cast<float>(i) / 128;
  return values;
}

std::vector<float> ask(ModelVersion& model, Shape shape, std::vector<float> values) {
  const RequestRef request = model.new_request();
  request->inputs[0] = view(shape, values);
  const Status status = model.infer(request);
  REQUIRE_MESSAGE(status.ok(), status.to_string());
  return elements<float>(request->outputs[0]);
}

int count(const std::vector<std::string>& lines, const std::string& start) {
  return static_cast<int>(
      std::ranges::count_if(lines, [&](const auto& line) { return line.starts_with(start); }));
}

}  // namespace

TEST_CASE("a model on a GPU answers as on the CPU") {
  if (!has_fake_gpu()) return;
  const uint64_t misuses = test::fake_driver()->misuse_count();
  const uint64_t used = test::fake_driver()->used_bytes(0);
  const auto on_cpu = load("mlp_64_256_256_10", options_on(Device{}));
  {
    const auto on_gpu = load("mlp_64_256_256_10", options_on(kGpu, 2));
    CHECK(count(appended(), "CUDAExecutionProvider") == 2);  // a session for each instance
    REQUIRE(on_gpu->warm_up(4, 1).ok());
    for (int64_t rows = 1; rows <= 16; rows += 3) {
      const std::vector<float> values = rows_of(rows, 64, static_cast<float>(rows));
      CHECK(ask(*on_gpu, {rows, 64}, values) == ask(*on_cpu, {rows, 64}, values));
    }
    CHECK(on_gpu->stats().failed == 0);
    CHECK(on_gpu->placement().at(0).by_provider.at(0).provider == "CUDAExecutionProvider");
  }
  (void)appended();
  CHECK(test::fake_driver()->misuse_count() == misuses);
  CHECK(test::fake_driver()->used_bytes(0) == used);
}

TEST_CASE("large batches take their way through pools, whichever the overlap") {
  if (!has_fake_gpu()) return;
  const uint64_t misuses = test::fake_driver()->misuse_count();
  for (const Overlap overlap : {Overlap::kNone, Overlap::kTwo, Overlap::kThree}) {
    ModelOptions options = options_on(kGpu);
    options.overlap = overlap;
    const auto on_gpu = load("conv_64", options);
    const auto on_cpu = load("conv_64", options_on(Device{}));
    const TensorSpec& input = on_gpu->signature().inputs[0];
    Shape shape(input.dims);
    shape[0] = 2;
    const auto elements_of = shape.element_count().value_or(0);
    const std::vector<float> values = rows_of(1, elements_of, 0.5F);
    CHECK(ask(*on_gpu, shape, values) == ask(*on_cpu, shape, values));
    CHECK(on_gpu->stats().overlapped == (overlap == Overlap::kNone ? 0 : 1));
  }
  (void)appended();
  CHECK(test::fake_driver()->misuse_count() == misuses);
}

TEST_CASE("a model whose outputs' shapes follow from its inputs' values is answered, too") {
  if (!has_fake_gpu()) return;
  const auto model = load("non_zero", options_on(kGpu));
  const RequestRef request = model->new_request();
  const TensorSpec& input = model->signature().inputs[0];
  Shape shape(input.dims);
  for (std::size_t i = 0; i < shape.rank(); ++i) {
    if (shape[i] < 0) shape[i] = 2;
  }
  std::vector<float> values(static_cast<std::size_t>(shape.element_count().value_or(0)), 1);
  values[0] = 0;
  request->inputs[0] = view(shape, values);
  CHECK_MESSAGE(model->infer(request).ok(), request->status.to_string());
  CHECK(request->outputs[0].shape.element_count().value_or(0) ==
        static_cast<int64_t>((values.size() - 1) * shape.rank()));
  (void)appended();
}

TEST_CASE("graphs are captured when the model is loaded, replayed, and released with it") {
  if (!has_fake_gpu()) return;
  const uint64_t misuses = test::fake_driver()->misuse_count();
  const uint64_t used = test::fake_driver()->used_bytes(0);
  const auto on_cpu = load("mlp_64_256_256_10", options_on(Device{}));
  {
    ModelOptions options = options_on(kGpu, 2);
    options.graph_rows = {1, 4, 16};
    auto on_gpu = load("mlp_64_256_256_10", options);
    std::vector<std::string> lines = appended();
    // Each place for a batch of each instance has its own memory, so its own graphs.
    CHECK(count(lines, "capture ") == 2 * 3 * 3);
    CHECK(count(lines, "run") == 0);
    for (int64_t rows = 1; rows <= 16; ++rows) {
      const std::vector<float> values = rows_of(rows, 64, static_cast<float>(rows));
      CHECK(ask(*on_gpu, {rows, 64}, values) == ask(*on_cpu, {rows, 64}, values));
    }
    lines = appended();
    CHECK(count(lines, "replay ") == 16);
    CHECK(lines.size() == 16);
    on_gpu->close();
    CHECK(on_gpu->stats().replayed == 16);
    on_gpu.reset();
    CHECK(appended() == std::vector<std::string>{"released 9", "released 9"});
  }
  CHECK(test::fake_driver()->misuse_count() == misuses);
  CHECK(test::fake_driver()->used_bytes(0) == used);
}

TEST_CASE("a model that cannot be captured is refused when it is loaded") {
  if (!has_fake_gpu()) return;
  ModelOptions options = options_on(kGpu);
  options.graph_rows = {1};
  const auto reason = [&](const char* name) {
    const Error error = error_of([&] { load(name, options); });
    CHECK(error.code() == ErrorCode::kInvalidInput);
    return std::string(error.what());
  };
  CHECK(contains(reason("add_repeatedly"), "version 1: cuda_graphs: node "));
  CHECK(contains(reason("non_zero"), "where a graph needs all but the rows fixed"));
  options.graph_rows = {1, 64};
  CHECK(contains(reason("mlp_64_256_256_10"), "expected at most max_rows, 16, got 64"));
  (void)appended();
}

}  // namespace pyruntime
