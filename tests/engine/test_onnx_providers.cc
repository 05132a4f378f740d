// In a process of its own: the library is ONNX Runtime with fake providers of a
// GPU, and a process has one library.
#include <cstdlib>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): setenv() is POSIX's

#include "engine/onnx_environment.h"
#include "engine/onnx_fixture.h"
#include "engine/onnx_providers.h"
#include "engine/onnx_with_gpu.h"
#include "engine/placement.h"

namespace pyruntime {
namespace {

using test::appended;
using test::has_library_with_gpu;
using test::Leaves;

SessionOptions with_providers(std::vector<ProviderOptions> providers) {
  SessionOptions options;
  options.providers = std::move(providers);
  return options;
}

TEST_CASE("CUDA and TensorRT get their options by calls of their own, in the order given") {
  if (!has_library_with_gpu()) return;
  const auto session =
      load_model("mlp_64_256_256_10",
                 with_providers({{.name = "tensorrt", .options = {{"trt_fp16_enable", "1"}}},
                                 {.name = "CUDAExecutionProvider",
                                  .options = {{"gpu_mem_limit", "1000"}, {"use_tf32", "0"}}}}));
  CHECK(appended() ==
        std::vector<std::string>{"TensorrtExecutionProvider trt_fp16_enable=1",
                                 "CUDAExecutionProvider gpu_mem_limit=1000 use_tf32=0"});
  CHECK(session->placement().front().provider == "TensorrtExecutionProvider");
}

TEST_CASE("an option that a provider refuses is the caller's mistake, and is named") {
  if (!has_library_with_gpu()) return;
  for (const char* name : {"cuda", "tensorrt"}) {
    CAPTURE(name);
    const Error error = error_of([&] {
      load_model("identity_f32",
                 with_providers({{.name = name, .options = {{"no_such_option", "1"}}}}));
    });
    CHECK(error.code() == ErrorCode::kInvalidInput);
    CHECK(contains(error.what(), std::string("provider '") + name + "'"));
    CHECK(contains(error.what(), "no_such_option"));
  }
  CHECK(appended().empty());
}

TEST_CASE("the placement says which provider runs each node") {
  if (!has_library_with_gpu()) return;
  const Leaves leaves("CUDA", "Softmax,Relu");
  const auto session =
      load_model("mlp_64_256_256_10", with_providers({{.name = "cuda"}, {.name = "cpu"}}));
  const std::vector<ProviderNodes> counted = count_by_provider(session->placement());
  REQUIRE(counted.size() == 2);
  for (const PlacedNode& node : session->placement()) {
    CAPTURE(node.op_type);
    const bool is_left = node.op_type == "Softmax" || node.op_type == "Relu";
    CHECK(node.provider == (is_left ? "CPUExecutionProvider" : "CUDAExecutionProvider"));
  }
}

TEST_CASE("a load fails where nodes fall back to the CPU unasked, and names them") {
  if (!has_library_with_gpu()) return;
  const Leaves leaves("CUDA", "Relu");
  const SessionOptions options = with_providers({{.name = "cuda"}});
  const Error error = error_of([&] { load_model("mlp_64_256_256_10", options); });
  CHECK(error.code() == ErrorCode::kEngineError);
  CAPTURE(error.what());
  CHECK(contains(error.what(), "mlp_64_256_256_10.onnx'"));
  CHECK(contains(error.what(), "nodes fall back to the CPU"));
  CHECK(contains(error.what(), "among the providers 'cuda': "));
  CHECK(contains(error.what(), "Relu"));
  CHECK_FALSE(contains(error.what(), "Gemm"));
  CHECK(contains(error.what(), "name provider 'cpu' last"));

  const Leaves second("TENSORRT", "Relu,Gemm");
  CHECK(error_of([&] {
          load_model("mlp_64_256_256_10", with_providers({{.name = "tensorrt"}}));
        }).code() == ErrorCode::kEngineError);
  // Where it is not left to anybody, nothing is refused.
  const Leaves none("CUDA", "");
  CHECK(load_model("mlp_64_256_256_10", options) != nullptr);
}

TEST_CASE("a model on a GPU runs on its provider, told which one") {
  const auto device = [](int16_t index) { return Device{DeviceKind::kCuda, index}; };
  using Options = std::vector<std::pair<std::string, std::string>>;

  auto providers = ort::providers_on(device(1), {});
  REQUIRE(providers.size() == 1);
  CHECK(providers[0].name == "cuda");
  CHECK(providers[0].options == Options{{"device_id", "1"}});
  CHECK_FALSE(ort::may_use_cpu(providers));

  providers = ort::providers_on(device(2), {{.name = "TensorrtExecutionProvider"},
                                            {.name = "cuda", .options = {{"device_id", "2"}}},
                                            {.name = "cpu"}});
  REQUIRE(providers.size() == 3);
  CHECK(providers[0].options == Options{{"device_id", "2"}});
  CHECK(providers[1].options == Options{{"device_id", "2"}});
  CHECK(providers[2].options.empty());
  CHECK(ort::may_use_cpu(providers));

  const Error error = error_of(
      [&] { ort::providers_on(device(0), {{.name = "cuda", .options = {{"device_id", "3"}}}}); });
  CHECK(error.code() == ErrorCode::kInvalidInput);
  CHECK(contains(error.what(), "device_id: expected 0, as the model is on device 'cuda:0', got 3"));

  CHECK(ort::providers_on(Device{}, {}).empty());
  CHECK(ort::providers_on(Device{}, {{.name = "cuda"}})[0].options.empty());
}

TEST_CASE("a provider whose library does not load is unavailable, with the loader's reason") {
  if (!has_library_with_gpu()) return;
  setenv("PYRUNTIME_FAKE_CUDA_LIBRARY", "/nowhere/libonnxruntime_providers_cuda.so", 1);
  const Error error =
      error_of([] { load_model("identity_f32", with_providers({{.name = "cuda"}})); });
  unsetenv("PYRUNTIME_FAKE_CUDA_LIBRARY");
  CHECK(error.code() == ErrorCode::kUnavailable);
  CHECK(contains(error.what(), "provider 'cuda': CreateCUDAProviderOptions"));
  CHECK(contains(error.what(), "/nowhere/libonnxruntime_providers_cuda.so"));
}

}  // namespace
}  // namespace pyruntime
