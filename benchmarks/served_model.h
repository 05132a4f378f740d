// A loaded model and one row for it: what benchmarks send.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "program.h"
#include "serving/model.h"

namespace pyruntime::bench {

// Threads: new_request() and infer() from any. Every request reads the same row.
class ServedModel {
 public:
  // name: of tests/models, a path, or "echo" for the echo engine, each of whose
  // runs takes `echo_us` without keeping a processor busy.
  static ServedModel load(const std::string& name, ModelOptions options, int64_t echo_us = 0) {
    if (name != "echo") {
      const std::string path = model_path(name);
      return {model_label(path), {.path = path}, options};
    }
    TensorSpec x;
    x.name = "x";
    x.dims = {-1, 16};
    options.session.engine = "echo";
    options.session.echo_inputs = {std::move(x)};
    options.session.config = {{"echo.delay_us", std::to_string(echo_us)}};
    return {"echo of " + std::to_string(echo_us) + " us", {}, options};
  }

  const std::string& label() const { return label_; }
  ModelVersion& model() const { return *model_; }

  RequestRef new_request() const {
    RequestRef request = model_->new_request();
    for (std::size_t i = 0; i < row_.size(); ++i) {
      Tensor& input = request->inputs[i];
      input.type = row_[i].type;
      input.shape = row_[i].shape;
      input.data = row_[i].data;
    }
    return request;
  }

  void infer() const { model_->infer(new_request()).throw_if_failed(); }

 private:
  ServedModel(std::string label, const ModelSource& source, const ModelOptions& options)
      : label_(std::move(label)), model_(ModelVersion::load(label_, 1, source, options)) {
    for (const TensorSpec& spec : model_->signature().inputs) {
      Tensor& input = row_.emplace_back();
      input.type = spec.type;
      input.shape = Shape(spec.dims);
      for (std::size_t i = 0; i < spec.dims.size(); ++i) {
        input.shape[i] = std::max<int64_t>(spec.dims[i], 1);
      }
      // Numbers that no sum makes denormal; zeros for what is not float32.
      std::vector<float>& memory = memory_.emplace_back(
          input.size_bytes() / sizeof(float) + 1, spec.type == DataType::kFloat32 ? 0.5F : 0.0F);
      input.data = reinterpret_cast<std::byte*>(memory.data());
    }
  }

  std::string label_;
  std::shared_ptr<ModelVersion> model_;
  std::vector<Tensor> row_;
  std::vector<std::vector<float>> memory_;  // behind row_
};

}  // namespace pyruntime::bench
