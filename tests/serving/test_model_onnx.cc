// What only a real engine's models show: outputs that are not what was
// declared, and batches that must equal single runs.
#include <algorithm>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sys/resource.h>

#include "engine/onnx_fixture.h"
#include "serving/model.h"

namespace pyruntime {
namespace {

RequestRef ask(ModelVersion& model, const Tensor& tensor) {
  RequestRef request = model.new_request();
  request->inputs[0] = tensor;
  return request;
}

std::shared_ptr<ModelVersion> load(const std::string& name, const ModelOptions& options = {}) {
  return ModelVersion::load(name, 1, {.path = model_path(name), .bytes = {}}, options);
}

}  // namespace

TEST_CASE("a gentle load leaves no thread of low priority, and the engine its own ones") {
  if (!has_onnx_library()) return;
  // Nice values of this process's threads.
  const auto priorities = [] {
    std::vector<int> found;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      const auto id = static_cast<id_t>(std::stol(task.path().filename().string()));
      found.push_back(getpriority(PRIO_PROCESS, id));
    }
    return found;
  };
  load("mlp_64_256_256_10");  // the library's own threads are made with the first
  const std::vector<int> before = priorities();
  const int own = getpriority(PRIO_PROCESS, 0);
  ModelOptions options;
  options.load_gently = true;
  options.session.intra_op_threads = 3;
  const auto model = load("mlp_64_256_256_10", options);
  const std::vector<int> after = priorities();
  CHECK(after.size() >= before.size() + 3);  // a resident, and two beside who calls
  CHECK(std::count(after.begin(), after.end(), own) == static_cast<std::ptrdiff_t>(after.size()));
  CHECK(model->warm_up(16, 2).ok());
}

TEST_CASE("requests in flight give the answers of single runs") {
  if (!has_onnx_library()) return;
  const auto model = load("mlp_64_256_256_10");
  const auto session = load_model("mlp_64_256_256_10");
  const auto stream = open_device(Device{}).create_stream();
  constexpr int kRequests = 100;
  std::vector<std::vector<float>> rows(kRequests, std::vector<float>(64));
  std::vector<RequestRef> requests;
  for (int r = 0; r < kRequests; ++r) {
    for (int i = 0; i < 64; ++i) {
      rows[r][i] = static_cast<float>((r * 64 + i) % 97) / 97.0F - 0.5F;
    }
    requests.push_back(ask(*model, view({1, 64}, rows[r])));
    REQUIRE(model->submit(requests.back()).ok());
  }
  for (int r = 0; r < kRequests; ++r) {
    requests[r]->wait();
    REQUIRE(requests[r]->status.ok());
    const std::vector<Tensor> inputs = {view({1, 64}, rows[r])};
    std::vector<Tensor> outputs(1);
    REQUIRE(session->run(*stream, inputs, outputs, kAllOutputs).ok());
    const auto expected = elements<float>(outputs[0]);
    const auto got = elements<float>(requests[r]->outputs[0]);
    REQUIRE(got.size() == expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == doctest::Approx(expected[i]));
  }
  CHECK(model->stats().batches < kRequests);
}

TEST_CASE("a model that folds its rows is found out and no longer batched") {
  if (!has_onnx_library()) return;
  ModelOptions options;
  options.batching.max_delay = std::chrono::milliseconds(20);
  const auto model = load("folds_rows", options);
  std::vector<std::vector<float>> rows;
  std::vector<RequestRef> requests;
  for (int round = 0; round < 3; ++round) {
    rows.clear();
    requests.clear();
    for (int r = 0; r < 4; ++r) rows.push_back(std::vector<float>(4, static_cast<float>(r)));
    for (auto& row : rows) {
      requests.push_back(ask(*model, view({1, 4}, row)));
      REQUIRE(model->submit(requests.back()).ok());
    }
    for (std::size_t r = 0; r < rows.size(); ++r) {
      requests[r]->wait();
      REQUIRE(requests[r]->status.ok());
      CHECK(elements<float>(requests[r]->outputs[0]) == rows[r]);
    }
  }
  std::vector<float> two = {1, 2, 3, 4, 10, 20, 30, 40};
  const RequestRef request = ask(*model, view({2, 4}, two));
  REQUIRE(model->infer(request).ok());
  CHECK(request->outputs[0].shape == Shape{1, 4});
  CHECK(elements<float>(request->outputs[0]) == std::vector<float>{11, 22, 33, 44});
}

TEST_CASE("a bad index fails alone and its batch is answered") {
  if (!has_onnx_library()) return;
  ModelOptions options;
  options.batching.max_delay = std::chrono::milliseconds(20);
  const auto model = load("gather_row", options);
  std::vector<std::vector<int64_t>> indices = {{0}, {1}, {99}, {2}};
  std::vector<RequestRef> requests;
  for (auto& index : indices) {
    requests.push_back(ask(*model, view(DataType::kInt64, {1}, index)));
    REQUIRE(model->submit(requests.back()).ok());
  }
  for (std::size_t i = 0; i < indices.size(); ++i) {
    requests[i]->wait();
    CHECK(requests[i]->status.ok() == (indices[i][0] != 99));
    if (!requests[i]->status.ok()) continue;
    const auto first = static_cast<float>(2 * indices[i][0]);
    CHECK(elements<float>(requests[i]->outputs[0]) == std::vector<float>{first, first + 1});
  }
}

TEST_CASE("strings travel in batches with their zero bytes") {
  if (!has_onnx_library()) return;
  ModelOptions options;
  options.batching.max_delay = std::chrono::milliseconds(20);
  const auto model = load("identity_string", options);
  std::vector<std::vector<std::string>> texts;
  std::vector<std::vector<StringRef>> rows;
  std::vector<RequestRef> requests;
  for (int r = 0; r < 3; ++r) {
    texts.push_back({std::string("a\0b", 3), "", std::string(1, '\0'), std::to_string(r)});
  }
  for (auto& text : texts) {
    rows.emplace_back();
    for (auto& one : text) rows.back().push_back({one.data(), one.size()});
  }
  for (auto& row : rows) {
    requests.push_back(ask(*model, view(DataType::kString, {1, 4}, row)));
    REQUIRE(model->submit(requests.back()).ok());
  }
  for (std::size_t r = 0; r < rows.size(); ++r) {
    requests[r]->wait();
    REQUIRE(requests[r]->status.ok());
    CHECK(strings(requests[r]->outputs[0]) == texts[r]);
  }
}

}  // namespace pyruntime
