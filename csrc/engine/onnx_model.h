// What sessions of ONNX Runtime on every device share: the loaded model, what it
// declares, and how its failures are told.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/onnx_api.h"
#include "engine/session.h"
#include "memory/buffer_pool.h"

namespace pyruntime::ort {

// A key of the engine and its value, for a run.
using RunConfig = std::vector<std::pair<const char*, std::string>>;

RunOptions make_run_options(const RunConfig& config = {});

class OnnxRunControl final : public RunControl {
 public:
  explicit OnnxRunControl(const RunConfig& config) : options_(make_run_options(config)) {}
  const OrtRunOptions* options() const { return options_.get(); }

 private:
  void tell_engine(bool terminates) override;

  const RunOptions options_;
};

// Threads: all calls from any.
class OnnxModel {
 public:
  // run_config: of every run. Throws as EngineEntry::load().
  OnnxModel(const ModelSource& source, const pyruntime::SessionOptions& options,
            RunConfig run_config);

  OrtSession* session() const { return session_.get(); }
  const std::string& label() const { return label_; }  // as errors name it
  const Placement& placement() const { return placement_; }
  const Signature& signature() const { return signature_; }
  const std::vector<const char*>& input_names() const { return input_names_; }
  const std::vector<const char*>& output_names() const { return output_names_; }

  std::unique_ptr<RunControl> create_control() const {
    return std::make_unique<OnnxRunControl>(run_config_);
  }
  const RunConfig& run_config() const { return run_config_; }
  // control: of create_control(), or null.
  const OrtRunOptions* options_of(const RunControl* control) const {
    if (control == nullptr) return run_options_.get();
    return static_cast<const OnnxRunControl*>(control)->options();
  }

  Status check_tensors(std::span<const Tensor> inputs, std::span<const Tensor> outputs) const;
  // Values over the tensors' memory, which lies where `memory` says.
  Status wrap_input(std::size_t i, const Tensor& input, const OrtMemoryInfo* memory,
                    OrtValue** value) const;
  // Null where the library is to make the output.
  Status wrap_output(std::size_t i, const Tensor& output, const OrtMemoryInfo* memory,
                     OrtValue** value) const;
  // pool: for strings.
  Status take_output(std::size_t i, OrtValue* value, Device device, BufferPool* pool,
                     Tensor* output) const;
  // All of it bound, or none where some of it cannot be. Throws EngineError.
  IoBinding bind(std::span<const Tensor> inputs, std::span<const Tensor> outputs,
                 const OrtMemoryInfo* memory) const;
  // Of a run; releases `status`.
  Status run_failure(OrtStatus* status, std::string_view call, const RunControl* control) const;

 private:
  // Constant after construction.
  const std::string label_;
  const Session session_;
  const Placement placement_;
  const Signature signature_;
  const RunConfig run_config_;
  const RunOptions run_options_;  // of runs without a control
  std::vector<const char*> input_names_;
  std::vector<const char*> output_names_;
};

}  // namespace pyruntime::ort
