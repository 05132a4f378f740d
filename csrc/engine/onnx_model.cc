#include "engine/onnx_model.h"

#include <algorithm>

#include "engine/onnx_placement.h"
#include "engine/onnx_session.h"
#include "engine/onnx_signature.h"
#include "engine/onnx_value.h"

namespace pyruntime::ort {
namespace {

std::string describe_source(const ModelSource& source) {
  if (!source.path.empty()) return "model '" + source.path + "'";
  return "model of " + std::to_string(source.bytes.size()) + " bytes";
}

// Whether the text is about memory given for an output that does not fit; the
// library has no number for that alone. Its words since 1.32, and before.
bool is_about_given_output(std::string_view text) {
  return text.find("output OrtValue provided for output") != std::string_view::npos ||
         text.find("OrtValue shape verification failed") != std::string_view::npos;
}

}  // namespace

RunOptions make_run_options(const RunConfig& config) {
  auto options = make<RunOptions>(&Api::CreateRunOptions, "CreateRunOptions");
  // What fails is returned, so the log would only repeat it.
  check(api().RunOptionsSetRunLogSeverityLevel(options.get(), kFatal),
        "RunOptionsSetRunLogSeverityLevel");
  for (const auto& [key, value] : config) {
    check(api().AddRunConfigEntry(options.get(), key, value.c_str()), "AddRunConfigEntry");
  }
  return options;
}

void OnnxRunControl::tell_engine(bool terminates) {
  // Both only store a flag; should that fail, the run goes on to its end.
  OrtStatus* const status = terminates ? api().RunOptionsSetTerminate(options_.get())
                                       : api().RunOptionsUnsetTerminate(options_.get());
  if (status != nullptr) api().ReleaseStatus(status);
}

OnnxModel::OnnxModel(const ModelSource& source, const pyruntime::SessionOptions& options,
                     RunConfig run_config)
    : label_(source.label.empty() ? describe_source(source) : source.label),
      session_(create_session(source, options, describe_source(source))),
      placement_(read_placement(session_.get())),
      signature_(read_signature(session_.get(), describe_source(source))),
      run_config_(std::move(run_config)),
      run_options_(make_run_options(run_config_)) {
  for (const TensorSpec& input : signature_.inputs) input_names_.push_back(input.name.c_str());
  for (const TensorSpec& output : signature_.outputs) output_names_.push_back(output.name.c_str());
}

Status OnnxModel::check_tensors(std::span<const Tensor> inputs,
                                std::span<const Tensor> outputs) const {
  if (inputs.size() == signature_.inputs.size() && outputs.size() == signature_.outputs.size()) {
    return {};
  }
  return {ErrorCode::kInvalidInput,
          label_ + ": expected " + std::to_string(signature_.inputs.size()) + " inputs and " +
              std::to_string(signature_.outputs.size()) + " outputs, got " +
              std::to_string(inputs.size()) + " and " + std::to_string(outputs.size())};
}

Status OnnxModel::wrap_input(std::size_t i, const Tensor& input, const OrtMemoryInfo* memory,
                             OrtValue** value) const {
  if (input.data == nullptr && input.size_bytes() != 0) {
    return {ErrorCode::kInvalidInput,
            label_ + ": input '" + signature_.inputs[i].name + "': no data"};
  }
  if (OrtStatus* status = wrap_tensor(input, memory, value)) {
    return {ErrorCode::kInvalidInput,
            label_ + ": input '" + signature_.inputs[i].name + "': " + take_message(status)};
  }
  return {};
}

Status OnnxModel::wrap_output(std::size_t i, const Tensor& output, const OrtMemoryInfo* memory,
                              OrtValue** value) const {
  if (output.data == nullptr) return {};  // the library makes it
  if (output.type == DataType::kString) {
    return {ErrorCode::kUnimplemented, label_ + ": output '" + signature_.outputs[i].name +
                                           "': strings into memory of the caller"};
  }
  OrtStatus* const status = wrap_tensor(output, memory, value);
  if (status == nullptr) return {};
  return {ErrorCode::kEngineError,
          label_ + ": output '" + signature_.outputs[i].name + "': " + take_message(status)};
}

Status OnnxModel::take_output(std::size_t i, OrtValue* value, Device device, BufferPool* pool,
                              Tensor* output) const {
  Status status = take_tensor(value, device, pool, output);
  if (status.ok()) return status;
  return {status.code(),
          label_ + ": output '" + signature_.outputs[i].name + "': " + status.message()};
}

IoBinding OnnxModel::bind(std::span<const Tensor> inputs, std::span<const Tensor> outputs,
                          const OrtMemoryInfo* memory) const {
  const auto cannot_stay = [](const Tensor& tensor) {
    return tensor.type == DataType::kString || (tensor.data == nullptr && tensor.size_bytes() > 0);
  };
  if (!check_tensors(inputs, outputs).ok() ||
      std::any_of(inputs.begin(), inputs.end(), cannot_stay) ||
      std::any_of(outputs.begin(), outputs.end(), cannot_stay)) {
    return nullptr;
  }
  OrtIoBinding* made = nullptr;
  check(api().CreateIoBinding(session(), &made), "CreateIoBinding", label_);
  IoBinding binding(made);
  // The binding keeps values alive by itself.
  const auto bind_all = [&](std::span<const Tensor> tensors, const auto& names, auto bind_call,
                            std::string_view call) {
    Values values(tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      check(wrap_tensor(tensors[i], memory, &values[i]), "CreateTensorWithDataAsOrtValue", label_);
      check((api().*bind_call)(binding.get(), names[i], values[i]), call, label_);
    }
  };
  bind_all(inputs, input_names_, &Api::BindInput, "BindInput");
  bind_all(outputs, output_names_, &Api::BindOutput, "BindOutput");
  return binding;
}

// "Invalid argument" is said of an input that the model refuses, which is the
// caller's mistake, but also of memory given for an output, which is not.
Status OnnxModel::run_failure(OrtStatus* status, std::string_view call,
                              const RunControl* control) const {
  const int number = api().GetErrorCode(status);
  std::string text = label_ + ": " + std::string(call) + ": " + take_message(status);
  ErrorCode code = ErrorCode::kEngineError;
  if (control != nullptr && control->is_terminated()) {
    code = ErrorCode::kCancelled;  // the library has no number for that
  } else if (number == kInvalidArgument && !is_about_given_output(text)) {
    code = ErrorCode::kInvalidInput;
  }
  return {code, std::move(text)};
}

}  // namespace pyruntime::ort
