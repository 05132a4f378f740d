// The cases run in order: those before the first load must stay first.
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include <doctest/doctest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): setenv() is POSIX's

#include "engine/onnx_api.h"
#include "engine/onnx_environment.h"
#include "engine/onnx_fixture.h"
#include "memory/device.h"

namespace pyruntime {
namespace {

std::multiset<std::string> thread_names() {
  std::multiset<std::string> names;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    names.insert(name);
  }
  return names;
}

std::size_t count_files(const std::filesystem::path& folder) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    count += entry.exists() ? 1 : 0;
  }
  return count;
}

TEST_CASE("a version older than the interface needs is refused, naming both and what to install") {
  const Error error = error_of([] { ort::check_version("1.23.2", "/opt/libonnxruntime.so"); });
  CHECK(error.code() == ErrorCode::kUnavailable);
  CHECK(contains(error.what(), "'/opt/libonnxruntime.so'"));
  CHECK(contains(error.what(), "expected version 1.24.0 or later, got 1.23.2"));
  CHECK(contains(error.what(), "pip install"));
  ort::check_version("1.24.0", "");
  ort::check_version("1.100.0-dev", "");
  ort::check_version("2.0.0", "");
  CHECK_THROWS_AS(ort::check_version("", ""), Error);
  CHECK_THROWS_AS(ort::check_version("0.99.0", ""), Error);
}

TEST_CASE("an old library is refused before its interface is asked for") {
  ort::ApiBase base{};
  base.GetVersionString = [] { return "1.20.1"; };
  CHECK(error_of([&] { ort::resolve_api(base, "old"); }).code() == ErrorCode::kUnavailable);
}

TEST_CASE("a library that lacks this version of the interface is refused") {
  ort::ApiBase base{};
  base.GetVersionString = [] { return "1.24.0"; };
  base.GetApi = [](uint32_t) -> const void* { return nullptr; };
  const Error error = error_of([&] { ort::resolve_api(base, "odd"); });
  CHECK(error.code() == ErrorCode::kUnavailable);
  CHECK(contains(error.what(), "does not offer version 24"));
}

TEST_CASE("a path that is no library is unavailable, and another may be tried after it") {
  configure_onnx_library({.path = "/nowhere/libonnxruntime.so"});
  Error error = error_of([] { load_onnx_library(); });
  CHECK(error.code() == ErrorCode::kUnavailable);
  CHECK(contains(error.what(), "/nowhere/libonnxruntime.so"));
  CHECK(contains(error.what(), "pip install"));
  CHECK_FALSE(is_onnx_library_loaded());
  CHECK(onnx_library_version().empty());

  configure_onnx_library({.path = "libm.so.6"});
  error = error_of([] { load_onnx_library(); });
  CHECK(error.code() == ErrorCode::kUnavailable);
  CHECK(contains(error.what(), "OrtGetApiBase"));

  const EngineEntry& engine = engines()[0];
  CHECK(engine.name == "onnx");
  CHECK(engine.version().empty());
  CHECK(engine.providers().empty());
  CHECK(contains(engine.why_absent(), "OrtGetApiBase"));
}

TEST_CASE("no telemetry: neither thread nor file appears from load to unload") {
  std::string home = (std::filesystem::temp_directory_path() / "pyruntime-home-XXXXXX").string();
  REQUIRE(mkdtemp(home.data()) != nullptr);
  setenv("HOME", home.c_str(), 1);
  setenv("XDG_CACHE_HOME", (home + "/cache").c_str(), 1);
  setenv("XDG_DATA_HOME", (home + "/data").c_str(), 1);
  setenv("TMPDIR", home.c_str(), 1);
  unsetenv("ORT_DISABLE_TELEMETRY");  // it is ours to set
  if (!has_onnx_library()) return;

  const auto threads = thread_names();
  {
    const auto session = load_model("identity_f32");
    const auto stream = open_device(Device{}).create_stream();
    std::vector<float> values(16, 1.0F);
    std::vector<Tensor> inputs{view({1, 16}, values)};
    std::vector<Tensor> outputs(1);
    CHECK(session->run(*stream, inputs, outputs, kAllOutputs).ok());
    CHECK(thread_names() == threads);
  }
  CHECK(thread_names() == threads);
  CHECK(count_files(home) == 0);
  CHECK(std::string(getenv("ORT_DISABLE_TELEMETRY")) == "1");
  std::filesystem::remove_all(home);
}

TEST_CASE("once it is loaded, the same options are accepted and others are refused") {
  if (!has_onnx_library()) return;
  load_onnx_library();
  configure_onnx_library({.path = getenv("PYRUNTIME_ONNXRUNTIME")});
  const Error error = error_of([] { configure_onnx_library({.path = "/elsewhere"}); });
  CHECK(error.code() == ErrorCode::kInvalidInput);
  CHECK(contains(error.what(), onnx_library_version()));
}

TEST_CASE("the global pool is refused once a model was loaded without it") {
  if (!has_onnx_library()) return;
  SessionOptions options;
  options.use_global_pool = true;
  load_model("identity_f32");
  const Error error = error_of([&] { load_model("identity_f32", options); });
  CHECK(error.code() == ErrorCode::kInvalidInput);
  CHECK(contains(error.what(), "create_global_pool"));
}

TEST_CASE("the table of engines says what is there") {
  if (!has_onnx_library()) return;
  const EngineEntry& engine = engines()[0];
  CHECK(engine.why_absent().empty());
  CHECK(engine.version() == onnx_library_version());
  const auto providers = engine.providers();
  CHECK(std::find(providers.begin(), providers.end(), "CPUExecutionProvider") != providers.end());
}

TEST_CASE("negative thread counts of the global pool are refused") {
  const Error error = error_of([] { configure_onnx_library({.global_intra_op_threads = -1}); });
  CHECK(error.code() == ErrorCode::kInvalidInput);
}

}  // namespace
}  // namespace pyruntime
