// ONNX Runtime alone, as a reference: C Run on fixed values, whose outputs are
// allocated before. What a server adds is what it takes longer than this.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/onnx_api.h"
#include "engine/onnx_environment.h"
#include "engine/onnx_session_options.h"
#include "engine/onnx_signature.h"
#include "engine/onnx_value.h"
#include "engine/session.h"
#include "memory/buffer_pool.h"

namespace pyruntime {

// Threads: const calls from any.
class BareSession {
 public:
  // With the same options as the core's sessions. Throws as load_session().
  BareSession(const std::string& path, const SessionOptions& options)
      : model_("model '" + path + "'"),
        session_(create(path, options, model_)),
        signature_(ort::read_signature(session_.get(), model_)) {
    for (const TensorSpec& input : signature_.inputs) input_names_.push_back(input.name.c_str());
    for (const TensorSpec& output : signature_.outputs) {
      output_names_.push_back(output.name.c_str());
    }
  }

  const Signature& signature() const { return signature_; }

  // outputs: nullptr where the engine shall allocate. Throws EngineError.
  void run(ort::Values* inputs, ort::Values* outputs) const {
    ort::check(
        ort::api().Run(session_.get(), nullptr, input_names_.data(), inputs->data(), inputs->size(),
                       output_names_.data(), outputs->size(), outputs->data()),
        "Run", model_);
  }

 private:
  static ort::Session create(const std::string& path, const SessionOptions& options,
                             const std::string& model) {
    ort::OrtEnv* const environment =
        ort::environment(options.use_global_pool);  // loads the library
    const ort::SessionOptions made = ort::make_session_options(options, {.path = path});
    ort::OrtSession* session = nullptr;
    ort::check(ort::api().CreateSession(environment, path.c_str(), made.get(), &session),
               "CreateSession", model);
    return ort::Session(session);
  }

  const std::string model_;  // as errors name it
  const ort::Session session_;
  const Signature signature_;
  std::vector<const char*> input_names_;
  std::vector<const char*> output_names_;
};

// Threads: one user at a time.
class BareRun {
 public:
  // inputs: in the signature's order; their memory must outlive this (that of
  // strings need not). Runs once, and keeps the outputs' memory from then on.
  BareRun(std::shared_ptr<const BareSession> session, std::span<const Tensor> inputs)
      : session_(std::move(session)),
        inputs_(inputs.size()),
        outputs_(session_->signature().outputs.size()) {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      ort::check(ort::wrap_tensor(inputs[i], ort::cpu_memory(), &inputs_[i]),
                 "CreateTensorWithDataAsOrtValue",
                 "input '" + session_->signature().inputs[i].name + "'");
    }
    (*this)();
  }

  void operator()() { session_->run(&inputs_, &outputs_); }

  // Runs, and calls see(tensor) for each output. The next run has new memory.
  template <typename See>
  void see_outputs(See&& see) {
    (*this)();
    BufferPool strings(open_device(Device{}), BufferPool::Options{});
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      Tensor tensor;  // stays without data where the model does not set it
      if (outputs_[i] != nullptr) {
        ort::take_tensor(outputs_.take(i), Device{}, &strings, &tensor).throw_if_failed();
      }
      see(tensor);
    }
    (*this)();
  }

 private:
  const std::shared_ptr<const BareSession> session_;
  ort::Values inputs_;
  ort::Values outputs_;
};

}  // namespace pyruntime
