#include "engine/onnx_cuda_session.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "engine/onnx_environment.h"
#include "engine/onnx_graphs.h"
#include "engine/onnx_model.h"
#include "engine/onnx_providers.h"
#include "engine/onnx_value.h"

namespace pyruntime::ort {
namespace {

// Else a run ends by waiting for all that was given to the stream.
constexpr const char* kDoNotWait = "disable_synchronize_execution_providers";
// Of the graph that a run is captured as, or replays.
constexpr const char* kGraphNumber = "gpu_graph_id";
constexpr const char* kNoGraph = "-1";

RunConfig config_of_runs(const pyruntime::SessionOptions& options) {
  RunConfig config{{kDoNotWait, "1"}};
  if (options.captures_graphs) config.emplace_back(kGraphNumber, kNoGraph);
  return config;
}

class CudaSession final : public pyruntime::Session {
 public:
  CudaSession(const ModelSource& source, const pyruntime::SessionOptions& options)
      : device_(options.device),
        captures_graphs_(options.captures_graphs),
        stream_(open_device(device_).create_stream()),
        model_(source, on_stream(options, stream_->native_handle()), config_of_runs(options)),
        memory_(make<MemoryInfo>(&Api::CreateMemoryInfo, "CreateMemoryInfo", "Cuda",
                                 int{kDeviceAllocator}, int{device_.index}, int{kMemoryDefault})) {
    if (captures_graphs_) require_capturable(model_.signature(), model_.placement());
  }

  const Signature& signature() const override { return model_.signature(); }
  Device device() const override { return device_; }
  const Placement& placement() const override { return model_.placement(); }
  bool is_shareable() const override { return false; }
  Stream* stream() override { return stream_.get(); }
  // The library keeps a captured graph by thread.
  bool keeps_to_thread() const override { return captures_graphs_; }

  Status run(Stream& stream, std::span<const Tensor> inputs, std::span<Tensor> outputs,
             OutputMask wanted, RunControl* control) override;
  std::unique_ptr<BoundRun> bind(std::span<const Tensor> inputs,
                                 std::span<const Tensor> outputs) override;
  std::unique_ptr<BoundRun> capture(Stream& stream, std::span<const Tensor> inputs,
                                    std::span<const Tensor> outputs, int number) override;
  std::unique_ptr<RunControl> create_control() override { return model_.create_control(); }

 private:
  Status bind_outputs(OrtIoBinding* binding, std::span<const Tensor> outputs, OutputMask wanted);
  Status take_outputs(const OrtIoBinding* binding, std::span<Tensor> outputs, OutputMask wanted);

  // Constant after construction.
  const Device device_;
  const bool captures_graphs_;
  const std::unique_ptr<Stream> stream_;  // outlives the session that runs on it
  const OnnxModel model_;
  const MemoryInfo memory_;
};

class CudaBoundRun final : public BoundRun {
 public:
  // options: of the graph that it is; null: those of the control.
  CudaBoundRun(const OnnxModel& model, IoBinding binding, RunOptions options)
      : model_(model), binding_(std::move(binding)), options_(std::move(options)) {}

  Status run(Stream&, RunControl* control) override {
    const bool is_graph = options_ != nullptr;
    OrtStatus* const status = api().RunWithBinding(
        model_.session(), is_graph ? options_.get() : model_.options_of(control), binding_.get());
    if (status == nullptr) return {};
    return model_.run_failure(status, "RunWithBinding", is_graph ? nullptr : control);
  }

 private:
  const OnnxModel& model_;
  const IoBinding binding_;  // holds its values
  const RunOptions options_;
};

Status CudaSession::bind_outputs(OrtIoBinding* binding, std::span<const Tensor> outputs,
                                 OutputMask wanted) {
  Values values(outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!wants(wanted, i)) continue;
    const char* const name = model_.output_names()[i];
    if (Status status = model_.wrap_output(i, outputs[i], memory_.get(), &values[i]);
        !status.ok()) {
      return status;
    }
    check(values[i] == nullptr ? api().BindOutputToDevice(binding, name, memory_.get())
                               : api().BindOutput(binding, name, values[i]),
          values[i] == nullptr ? "BindOutputToDevice" : "BindOutput", model_.label());
  }
  return {};
}

Status CudaSession::take_outputs(const OrtIoBinding* binding, std::span<Tensor> outputs,
                                 OutputMask wanted) {
  OrtValue** values = nullptr;
  std::size_t count = 0;
  check(api().GetBoundOutputValues(binding, default_allocator(), &values, &count),
        "GetBoundOutputValues", model_.label());
  Values owned(count);
  std::copy_n(values, count, owned.data());
  check(api().AllocatorFree(default_allocator(), static_cast<void*>(values)), "AllocatorFree",
        model_.label());
  for (std::size_t i = 0, at = 0; i < outputs.size() && at < count; ++i) {
    if (!wants(wanted, i)) continue;
    if (outputs[i].data == nullptr && owned[at] != nullptr) {
      Status status = model_.take_output(i, owned.take(at), device_, nullptr, &outputs[i]);
      if (!status.ok()) return status;
    }
    ++at;
  }
  return {};
}

Status CudaSession::run(Stream& stream, std::span<const Tensor> inputs, std::span<Tensor> outputs,
                        OutputMask wanted, RunControl* control) {
  if (&stream != stream_.get()) {
    return {ErrorCode::kInvalidInput, model_.label() + ": expected the session's own stream"};
  }
  if (Status status = model_.check_tensors(inputs, outputs); !status.ok()) return status;
  OrtIoBinding* made = nullptr;
  check(api().CreateIoBinding(model_.session(), &made), "CreateIoBinding", model_.label());
  const IoBinding binding(made);
  Values input_values(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Status status = model_.wrap_input(i, inputs[i], memory_.get(), &input_values[i]);
    if (!status.ok()) return status;
    if (OrtStatus* failed =
            api().BindInput(binding.get(), model_.input_names()[i], input_values[i])) {
      return model_.run_failure(failed, "BindInput", control);
    }
  }
  if (Status status = bind_outputs(binding.get(), outputs, wanted); !status.ok()) return status;
  if (OrtStatus* failed =
          api().RunWithBinding(model_.session(), model_.options_of(control), binding.get())) {
    return model_.run_failure(failed, "RunWithBinding", control);
  }
  return take_outputs(binding.get(), outputs, wanted);
}

std::unique_ptr<BoundRun> CudaSession::bind(std::span<const Tensor> inputs,
                                            std::span<const Tensor> outputs) {
  IoBinding binding = model_.bind(inputs, outputs, memory_.get());
  if (binding == nullptr) return nullptr;
  return std::make_unique<CudaBoundRun>(model_, std::move(binding), nullptr);
}

std::unique_ptr<BoundRun> CudaSession::capture(Stream& stream, std::span<const Tensor> inputs,
                                               std::span<const Tensor> outputs, int number) {
  IoBinding binding = model_.bind(inputs, outputs, memory_.get());
  if (binding == nullptr) {
    throw Error(ErrorCode::kEngineError, model_.label() + ": a graph needs bound memory");
  }
  RunConfig config = model_.run_config();
  std::erase_if(config, [](const auto& entry) { return entry.first == kGraphNumber; });
  config.emplace_back(kGraphNumber, std::to_string(number));
  auto captured =
      std::make_unique<CudaBoundRun>(model_, std::move(binding), make_run_options(config));
  // The first run is an ordinary one, the next is captured, the last one replayed; newer versions
  // of the library do the first two in one.
  for (int run = 0; run < 3; ++run) {
    captured->run(stream, nullptr).throw_if_failed();
    stream.synchronize().throw_if_failed();
  }
  return captured;
}

}  // namespace

std::unique_ptr<pyruntime::Session> load_cuda_session(const ModelSource& source,
                                                      const pyruntime::SessionOptions& options) {
  return std::make_unique<CudaSession>(source, options);
}

}  // namespace pyruntime::ort
