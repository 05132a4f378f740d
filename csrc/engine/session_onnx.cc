// The ONNX Runtime engine, on the CPU: a run is done when run() returns.
#include <algorithm>
#include <optional>

#include "engine/onnx_api.h"
#include "engine/onnx_environment.h"
#include "engine/onnx_library.h"
#include "engine/onnx_placement.h"
#include "engine/onnx_session.h"
#include "engine/onnx_signature.h"
#include "engine/onnx_value.h"
#include "engine/session.h"
#include "memory/buffer_pool.h"

namespace pyruntime {
namespace {

std::string describe_source(const ModelSource& source) {
  if (!source.path.empty()) return "model '" + source.path + "'";
  return "model of " + std::to_string(source.bytes.size()) + " bytes";
}

ort::RunOptions make_run_options() {
  auto options = ort::make<ort::RunOptions>(&ort::Api::CreateRunOptions, "CreateRunOptions");
  // What fails is returned, so the log would only repeat it.
  ort::check(ort::api().RunOptionsSetRunLogSeverityLevel(options.get(), ort::kFatal),
             "RunOptionsSetRunLogSeverityLevel");
  return options;
}

class OnnxRunControl final : public RunControl {
 public:
  const ort::OrtRunOptions* options() const { return options_.get(); }

 private:
  void tell_engine(bool terminates) override {
    // Both only store a flag; should that fail, the run goes on to its end.
    ort::OrtStatus* const status = terminates ? ort::api().RunOptionsSetTerminate(options_.get())
                                              : ort::api().RunOptionsUnsetTerminate(options_.get());
    if (status != nullptr) ort::api().ReleaseStatus(status);
  }

  const ort::RunOptions options_ = make_run_options();
};

class OnnxSession final : public Session {
 public:
  OnnxSession(const ModelSource& source, const SessionOptions& options)
      : model_(source.label.empty() ? describe_source(source) : source.label),
        session_(ort::create_session(source, options, describe_source(source))),
        placement_(ort::read_placement(session_.get())),
        signature_(ort::read_signature(session_.get(), describe_source(source))) {
    for (const TensorSpec& input : signature_.inputs) input_names_.push_back(input.name.c_str());
    for (const TensorSpec& output : signature_.outputs) {
      output_names_.push_back(output.name.c_str());
      if (output.type == DataType::kString && !string_pool_) {
        string_pool_.emplace(open_device(Device{}), BufferPool::Options{});
      }
    }
  }

  const Signature& signature() const override { return signature_; }
  Device device() const override { return {}; }
  const Placement& placement() const override { return placement_; }

  Status run(Stream& stream, std::span<const Tensor> inputs, std::span<Tensor> outputs,
             OutputMask wanted, RunControl* control) override;
  std::unique_ptr<BoundRun> bind(std::span<const Tensor> inputs,
                                 std::span<const Tensor> outputs) override;
  std::unique_ptr<RunControl> create_control() override {
    return std::make_unique<OnnxRunControl>();
  }

 private:
  friend class OnnxBoundRun;

  Status check_tensors(std::span<const Tensor> inputs, std::span<const Tensor> outputs) const;
  Status wrap_inputs(std::span<const Tensor> inputs, ort::Values* values) const;
  Status wrap_output(std::size_t i, const Tensor& output, ort::OrtValue** value) const;
  Status take_output(std::size_t i, ort::OrtValue* value, Tensor* output);
  const ort::OrtRunOptions* options_of(const RunControl* control) const {
    if (control == nullptr) return run_options_.get();
    return static_cast<const OnnxRunControl*>(control)->options();
  }
  Status run_failure(ort::OrtStatus* status, std::string_view call,
                     const RunControl* control) const;

  // Constant after construction.
  const std::string model_;  // as errors name it
  const ort::Session session_;
  const Placement placement_;
  const Signature signature_;
  std::vector<const char*> input_names_;
  std::vector<const char*> output_names_;
  const ort::RunOptions run_options_ = make_run_options();  // of runs without a control

  std::optional<BufferPool> string_pool_;  // synchronises itself; where an output is of strings
};

// Bindings made once; a run then names nothing and allocates nothing of ours.
class OnnxBoundRun final : public BoundRun {
 public:
  OnnxBoundRun(const OnnxSession& session, ort::IoBinding binding)
      : session_(session), binding_(std::move(binding)) {}

  Status run(Stream&, RunControl* control) override {
    ort::OrtStatus* const status = ort::api().RunWithBinding(
        session_.session_.get(), session_.options_of(control), binding_.get());
    if (status == nullptr) return {};
    return session_.run_failure(status, "RunWithBinding", control);
  }

 private:
  const OnnxSession& session_;
  const ort::IoBinding binding_;  // holds its values
};

Status OnnxSession::check_tensors(std::span<const Tensor> inputs,
                                  std::span<const Tensor> outputs) const {
  if (inputs.size() == signature_.inputs.size() && outputs.size() == signature_.outputs.size()) {
    return {};
  }
  return {ErrorCode::kInvalidInput,
          model_ + ": expected " + std::to_string(signature_.inputs.size()) + " inputs and " +
              std::to_string(signature_.outputs.size()) + " outputs, got " +
              std::to_string(inputs.size()) + " and " + std::to_string(outputs.size())};
}

Status OnnxSession::wrap_inputs(std::span<const Tensor> inputs, ort::Values* values) const {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].data == nullptr && inputs[i].size_bytes() != 0) {
      return {ErrorCode::kInvalidInput,
              model_ + ": input '" + signature_.inputs[i].name + "': no data"};
    }
    if (ort::OrtStatus* status = ort::wrap_tensor(inputs[i], &(*values)[i])) {
      return {ErrorCode::kInvalidInput,
              model_ + ": input '" + signature_.inputs[i].name + "': " + ort::take_message(status)};
    }
  }
  return {};
}

Status OnnxSession::wrap_output(std::size_t i, const Tensor& output, ort::OrtValue** value) const {
  if (output.data == nullptr) return {};  // the library makes it
  if (output.type == DataType::kString) {
    return {ErrorCode::kUnimplemented, model_ + ": output '" + signature_.outputs[i].name +
                                           "': strings into memory of the caller"};
  }
  ort::OrtStatus* const status = ort::wrap_tensor(output, value);
  if (status == nullptr) return {};
  return {ErrorCode::kEngineError,
          model_ + ": output '" + signature_.outputs[i].name + "': " + ort::take_message(status)};
}

Status OnnxSession::take_output(std::size_t i, ort::OrtValue* value, Tensor* output) {
  Status status = ort::take_tensor(value, string_pool_ ? &*string_pool_ : nullptr, output);
  if (status.ok()) return status;
  return {status.code(),
          model_ + ": output '" + signature_.outputs[i].name + "': " + status.message()};
}

// Whether the text is about memory given for an output that does not fit; the
// library has no number for that alone. Its words since 1.32, and before.
bool is_about_given_output(std::string_view text) {
  return text.find("output OrtValue provided for output") != std::string_view::npos ||
         text.find("OrtValue shape verification failed") != std::string_view::npos;
}

// "Invalid argument" is said of an input that the model refuses, which is the
// caller's mistake, but also of memory given for an output, which is not.
Status OnnxSession::run_failure(ort::OrtStatus* status, std::string_view call,
                                const RunControl* control) const {
  const int number = ort::api().GetErrorCode(status);
  std::string text = model_ + ": " + std::string(call) + ": " + ort::take_message(status);
  ErrorCode code = ErrorCode::kEngineError;
  if (control != nullptr && control->is_terminated()) {
    code = ErrorCode::kCancelled;  // the library has no number for that
  } else if (number == ort::kInvalidArgument && !is_about_given_output(text)) {
    code = ErrorCode::kInvalidInput;
  }
  return {code, std::move(text)};
}

Status OnnxSession::run(Stream&, std::span<const Tensor> inputs, std::span<Tensor> outputs,
                        OutputMask wanted, RunControl* control) {
  if (Status status = check_tensors(inputs, outputs); !status.ok()) return status;
  ort::Values input_values(inputs.size());
  if (Status status = wrap_inputs(inputs, &input_values); !status.ok()) return status;

  // The wanted outputs, close together.
  ort::FewPointers<const char> names(outputs.size());
  ort::Values output_values(outputs.size());
  std::size_t count = 0;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!wants(wanted, i)) continue;
    names[count] = output_names_[i];
    if (Status status = wrap_output(i, outputs[i], &output_values[count]); !status.ok()) {
      return status;
    }
    ++count;
  }
  if (count == 0) return {ErrorCode::kInvalidInput, model_ + ": no output is wanted"};

  if (ort::OrtStatus* status = ort::api().Run(
          session_.get(), options_of(control), input_names_.data(), input_values.data(),
          inputs.size(), names.data(), count, output_values.data())) {
    return run_failure(status, "Run", control);
  }

  for (std::size_t i = 0, at = 0; i < outputs.size(); ++i) {
    if (!wants(wanted, i)) continue;
    // One that was given its memory stays as it is; one that the model did not
    // set stays unset.
    if (outputs[i].data == nullptr && output_values[at] != nullptr) {
      Status status = take_output(i, output_values.take(at), &outputs[i]);
      if (!status.ok()) return status;
    }
    ++at;
  }
  return {};
}

std::unique_ptr<BoundRun> OnnxSession::bind(std::span<const Tensor> inputs,
                                            std::span<const Tensor> outputs) {
  const auto cannot_stay = [](const Tensor& tensor) {
    return tensor.type == DataType::kString || (tensor.data == nullptr && tensor.size_bytes() > 0);
  };
  if (!check_tensors(inputs, outputs).ok() ||
      std::any_of(inputs.begin(), inputs.end(), cannot_stay) ||
      std::any_of(outputs.begin(), outputs.end(), cannot_stay)) {
    return nullptr;
  }
  ort::OrtIoBinding* made = nullptr;
  ort::check(ort::api().CreateIoBinding(session_.get(), &made), "CreateIoBinding", model_);
  ort::IoBinding binding(made);
  // The binding keeps values alive by itself.
  const auto bind_all = [&](std::span<const Tensor> tensors, const auto& names, auto bind_call,
                            std::string_view call) {
    ort::Values values(tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      ort::check(ort::wrap_tensor(tensors[i], &values[i]), "CreateTensorWithDataAsOrtValue",
                 model_);
      ort::check((ort::api().*bind_call)(binding.get(), names[i], values[i]), call, model_);
    }
  };
  bind_all(inputs, input_names_, &ort::Api::BindInput, "BindInput");
  bind_all(outputs, output_names_, &ort::Api::BindOutput, "BindOutput");
  return std::make_unique<OnnxBoundRun>(*this, std::move(binding));
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
    .load = [](const ModelSource& source, const SessionOptions& options)
        -> std::unique_ptr<Session> { return std::make_unique<OnnxSession>(source, options); },
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
