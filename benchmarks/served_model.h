// A loaded model and one row for it: what benchmarks send.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "probe/sender.h"
#include "program.h"
#include "serving/model.h"

namespace pyruntime::bench {

// Values for `rows` rows of whatever a model takes.
class FilledInputs {
 public:
  FilledInputs(const Signature& signature, int64_t rows) {
    for (const TensorSpec& spec : signature.inputs) {
      Tensor& input = tensors_.emplace_back();
      input.type = spec.type;
      input.shape = Shape(spec.dims);
      for (std::size_t i = 0; i < spec.dims.size(); ++i) {
        if (spec.dims[i] < 0) input.shape[i] = i == 0 ? rows : 1;
      }
      // Numbers that no sum makes denormal; zeros for what is not float32.
      std::vector<float>& memory = memory_.emplace_back(
          input.size_bytes() / sizeof(float) + 1, spec.type == DataType::kFloat32 ? 0.5F : 0.0F);
      input.data = reinterpret_cast<std::byte*>(memory.data());
    }
  }

  std::span<const Tensor> tensors() const { return tensors_; }

 private:
  std::vector<Tensor> tensors_;
  std::vector<std::vector<float>> memory_;  // behind tensors_
};

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

  std::span<const Tensor> row() const { return row_.tensors(); }
  RequestRef new_request() const { return make_request(*model_, row()); }
  void infer() const { model_->infer(new_request()).throw_if_failed(); }

 private:
  ServedModel(std::string label, const ModelSource& source, const ModelOptions& options)
      : label_(std::move(label)),
        model_(ModelVersion::load(label_, 1, source, options)),
        row_(model_->signature(), 1) {}

  std::string label_;
  std::shared_ptr<ModelVersion> model_;
  FilledInputs row_;
};

}  // namespace pyruntime::bench
