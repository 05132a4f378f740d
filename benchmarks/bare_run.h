// ONNX Runtime alone, by its C interface: what the core is measured against.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/onnx_api.h"
#include "engine/onnx_environment.h"
#include "engine/session.h"

namespace pyruntime::bench {

// The engine's own session, as the core makes it. May be shared.
inline ort::Session bare_session(const std::string& path, int intra_op_threads) {
  auto options = ort::make<ort::SessionOptions>(&ort::Api::CreateSessionOptions, "options");
  ort::check(ort::api().SetIntraOpNumThreads(options.get(), intra_op_threads),
             "SetIntraOpNumThreads");
  ort::check(
      ort::api().AddSessionConfigEntry(options.get(), "session.intra_op.allow_spinning", "0"),
      "AddSessionConfigEntry");
  return ort::make<ort::Session>(&ort::Api::CreateSession, "CreateSession", ort::environment(false),
                                 path.c_str(), options.get());
}

// C Run on fixed values of `rows` rows, outputs preallocated.
//
// Threads: one user.
class BareRun {
 public:
  // `session` and `signature`, which is the model's, must outlive this. Throws
  // InvalidInput unless inputs and outputs are float32 with all but their rows
  // declared.
  BareRun(ort::OrtSession* session, const Signature& signature, int64_t rows) : session_(session) {
    for (const TensorSpec& spec : signature.inputs) add(spec, rows, &input_names_, &inputs_);
    for (const TensorSpec& spec : signature.outputs) add(spec, rows, &output_names_, &outputs_);
  }

  void operator()() {
    ort::check(
        ort::api().Run(session_, nullptr, input_names_.data(), inputs_.data(), inputs_.size(),
                       output_names_.data(), outputs_.size(), outputs_.data()),
        "Run");
  }

 private:
  void add(const TensorSpec& spec, int64_t rows, std::vector<const char*>* names,
           std::vector<ort::OrtValue*>* values) {
    std::vector<int64_t> dims = spec.dims;
    if (!dims.empty() && dims[0] < 0) dims[0] = rows;
    std::size_t elements = 1;
    for (const int64_t dim : dims) {
      if (dim < 0 || spec.type != DataType::kFloat32) {
        throw Error(ErrorCode::kInvalidInput,
                    "'" + spec.name + "': expected float32 [rows, ...], got " + spec.to_string());
      }
      elements *= static_cast<std::size_t>(dim);
    }
    std::vector<float>& data = memory_.emplace_back(std::max<std::size_t>(elements, 1), 0.5F);
    names->push_back(spec.name.c_str());
    values->push_back(
        owned_
            .emplace_back(ort::make<ort::Value>(
                &ort::Api::CreateTensorWithDataAsOrtValue, "CreateTensor", ort::cpu_memory(),
                static_cast<void*>(data.data()), elements * sizeof(float),
                static_cast<const int64_t*>(dims.data()), dims.size(), 1))
            .get());
  }

  ort::OrtSession* const session_;
  std::vector<std::vector<float>> memory_;
  std::vector<ort::Value> owned_;
  std::vector<const char*> input_names_, output_names_;
  std::vector<ort::OrtValue*> inputs_, outputs_;
};

}  // namespace pyruntime::bench
