// In a process of its own: a process decides once whether there is a pool.
#include <filesystem>
#include <string>
#include <thread>

#include <doctest/doctest.h>

#include "engine/onnx_fixture.h"
#include "memory/device.h"

namespace pyruntime {
namespace {

std::ptrdiff_t count_threads() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});
}

TEST_CASE("sessions with and without the global pool live side by side, the pool made once") {
  const char* const path = std::getenv("PYRUNTIME_ONNXRUNTIME");
  if (!has_onnx_library()) return;
  configure_onnx_library({.path = path, .create_global_pool = true, .global_intra_op_threads = 3});
  std::thread([] {}).join();  // so that a sanitizer's own thread is there from the start
  const std::ptrdiff_t before = count_threads();
  const auto own = load_model("mlp_64_256_256_10");
  CHECK(count_threads() == before + 2);  // the caller is the third

  SessionOptions options;
  options.use_global_pool = true;
  const auto first = load_model("mlp_64_256_256_10", options);
  const auto second = load_model("mlp_64_256_256_10", options);
  CHECK(count_threads() == before + 2);

  const auto stream = open_device(Device{}).create_stream();
  std::vector<float> values(4096);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 7) / 7;
  std::vector<Tensor> inputs{view({64, 64}, values)};
  std::vector<std::vector<float>> answers;
  for (const auto& session : {own.get(), first.get(), second.get()}) {
    std::vector<Tensor> outputs(1);
    REQUIRE(session->run(*stream, inputs, outputs, kAllOutputs).ok());
    answers.push_back(elements<float>(outputs[0]));
  }
  CHECK(answers[1] == answers[2]);
  for (std::size_t i = 0; i < answers[0].size(); ++i) {
    CHECK(answers[0][i] == doctest::Approx(answers[1][i]).epsilon(1e-4));
  }
}

}  // namespace
}  // namespace pyruntime
