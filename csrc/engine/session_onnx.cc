// The ONNX Runtime engine. On the CPU a run is done when run() returns; on a GPU
// see onnx_cuda_session.h.
#include <algorithm>
#include <optional>

#include "engine/onnx_api.h"
#include "engine/onnx_cuda_session.h"
#include "engine/onnx_environment.h"
#include "engine/onnx_library.h"
#include "engine/onnx_model.h"
#include "engine/onnx_value.h"
#include "engine/session.h"
#include "memory/buffer_pool.h"

namespace pyruntime {
namespace {

class OnnxSession final : public Session {
 public:
  OnnxSession(const ModelSource& source, const SessionOptions& options)
      : model_(source, options, {}) {
    const auto& outputs = signature().outputs;
    if (std::any_of(outputs.begin(), outputs.end(),
                    [](const TensorSpec& output) { return output.type == DataType::kString; })) {
      string_pool_.emplace(open_device(Device{}), BufferPool::Options{});
    }
  }

  const Signature& signature() const override { return model_.signature(); }
  Device device() const override { return {}; }
  const Placement& placement() const override { return model_.placement(); }

  Status run(Stream& stream, std::span<const Tensor> inputs, std::span<Tensor> outputs,
             OutputMask wanted, RunControl* control) override;
  std::unique_ptr<BoundRun> bind(std::span<const Tensor> inputs,
                                 std::span<const Tensor> outputs) override;
  std::unique_ptr<BoundRun> capture(Stream&, std::span<const Tensor>, std::span<const Tensor>,
                                    int) override {
    throw Error(ErrorCode::kUnimplemented, model_.label() + ": graphs of runs on the CPU");
  }
  std::unique_ptr<RunControl> create_control() override { return model_.create_control(); }

 private:
  // Constant after construction.
  const ort::OnnxModel model_;

  std::optional<BufferPool> string_pool_;  // synchronises itself; where an output is of strings
};

// Bindings made once; a run then names nothing and allocates nothing of ours.
class OnnxBoundRun final : public BoundRun {
 public:
  OnnxBoundRun(const ort::OnnxModel& model, ort::IoBinding binding)
      : model_(model), binding_(std::move(binding)) {}

  Status run(Stream&, RunControl* control) override {
    ort::OrtStatus* const status =
        ort::api().RunWithBinding(model_.session(), model_.options_of(control), binding_.get());
    if (status == nullptr) return {};
    return model_.run_failure(status, "RunWithBinding", control);
  }

 private:
  const ort::OnnxModel& model_;
  const ort::IoBinding binding_;  // holds its values
};

Status OnnxSession::run(Stream&, std::span<const Tensor> inputs, std::span<Tensor> outputs,
                        OutputMask wanted, RunControl* control) {
  if (Status status = model_.check_tensors(inputs, outputs); !status.ok()) return status;
  ort::Values input_values(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Status status = model_.wrap_input(i, inputs[i], ort::cpu_memory(), &input_values[i]);
    if (!status.ok()) return status;
  }

  // The wanted outputs, close together.
  ort::FewPointers<const char> names(outputs.size());
  ort::Values output_values(outputs.size());
  std::size_t count = 0;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!wants(wanted, i)) continue;
    names[count] = model_.output_names()[i];
    Status status = model_.wrap_output(i, outputs[i], ort::cpu_memory(), &output_values[count]);
    if (!status.ok()) return status;
    ++count;
  }
  if (count == 0) return {ErrorCode::kInvalidInput, model_.label() + ": no output is wanted"};

  if (ort::OrtStatus* status = ort::api().Run(
          model_.session(), model_.options_of(control), model_.input_names().data(),
          input_values.data(), inputs.size(), names.data(), count, output_values.data())) {
    return model_.run_failure(status, "Run", control);
  }

  for (std::size_t i = 0, at = 0; i < outputs.size(); ++i) {
    if (!wants(wanted, i)) continue;
    // One that was given its memory stays as it is; one that the model did not
    // set stays unset.
    if (outputs[i].data == nullptr && output_values[at] != nullptr) {
      Status status = model_.take_output(i, output_values.take(at), Device{},
                                         string_pool_ ? &*string_pool_ : nullptr, &outputs[i]);
      if (!status.ok()) return status;
    }
    ++at;
  }
  return {};
}

std::unique_ptr<BoundRun> OnnxSession::bind(std::span<const Tensor> inputs,
                                            std::span<const Tensor> outputs) {
  ort::IoBinding binding = model_.bind(inputs, outputs, ort::cpu_memory());
  if (binding == nullptr) return nullptr;
  return std::make_unique<OnnxBoundRun>(model_, std::move(binding));
}

std::unique_ptr<Session> load_onnx(const ModelSource& source, const SessionOptions& options) {
  if (options.device.kind == DeviceKind::kCuda) return ort::load_cuda_session(source, options);
  if (options.captures_graphs) {
    throw Error(ErrorCode::kInvalidInput, "cuda_graphs: expected instances on CUDA devices, got '" +
                                              options.device.name() + "'");
  }
  return std::make_unique<OnnxSession>(source, options);
}

std::string why_onnx_absent() {
  try {
    load_onnx_library();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace

extern const EngineEntry kOnnxEngine;
constexpr EngineEntry kOnnxEngine{
    .name = "onnx",
    .load = load_onnx,
    .version = []() -> std::string {
      return why_onnx_absent().empty() ? onnx_library_version() : std::string();
    },
    .why_absent = why_onnx_absent,
    .providers = []() -> std::vector<std::string> {
      if (!why_onnx_absent().empty()) return {};
      return ort::available_providers();
    },
};

}  // namespace pyruntime
