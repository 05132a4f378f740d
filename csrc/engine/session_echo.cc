// The echo engine: output i, named "output_<i>", is a copy of input i, on any
// device. It needs no model; its signature is SessionOptions::echo_inputs.
//
// SessionOptions::config makes it slow or faulty, for tests of what is above:
//   echo.delay_us    every run takes this long: work on the stream, without
//                    keeping a processor busy; ended early by a RunControl
//   echo.fail_value  a run fails with EngineError when an element of its first
//                    input equals this (bool, integers, float32, float64 and
//                    string). On a device that the host cannot read, such a
//                    run waits for the stream.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <thread>

#include "engine/session.h"
#include "engine/string_tensor.h"
#include "memory/buffer_pool.h"

namespace pyruntime {
namespace {

template <typename T>
T parse_number(const std::string& key, const std::string& text) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [position, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || position != end) {
    throw Error(ErrorCode::kInvalidInput, key + ": expected a number, got '" + text + "'");
  }
  return value;
}

// Says whether one element of a tensor equals a value given as text.
class ValueFinder {
 public:
  ValueFinder(DataType type, std::string text) : type_(type), text_(std::move(text)) {
    if (type == DataType::kFloat16 || type == DataType::kBfloat16) {
      throw Error(ErrorCode::kInvalidInput,
                  "echo.fail_value: not for an input of " + std::string(data_type_name(type)));
    }
    if (type != DataType::kString) number_ = parse_number<double>("echo.fail_value", text_);
  }

  bool is_in(const std::byte* data, std::size_t elements) const {
    switch (type_) {
      case DataType::kBool:
      case DataType::kUint8:
        return has_number<uint8_t>(data, elements);
      case DataType::kUint16:
        return has_number<uint16_t>(data, elements);
      case DataType::kUint32:
        return has_number<uint32_t>(data, elements);
      case DataType::kUint64:
        return has_number<uint64_t>(data, elements);
      case DataType::kInt8:
        return has_number<int8_t>(data, elements);
      case DataType::kInt16:
        return has_number<int16_t>(data, elements);
      case DataType::kInt32:
        return has_number<int32_t>(data, elements);
      case DataType::kInt64:
        return has_number<int64_t>(data, elements);
      case DataType::kFloat32:
        return has_number<float>(data, elements);
      case DataType::kFloat64:
        return has_number<double>(data, elements);
      case DataType::kString: {
        const auto* first = reinterpret_cast<const StringRef*>(data);
        return std::any_of(first, first + elements,
                           [this](const StringRef& string) { return string.view() == text_; });
      }
      case DataType::kFloat16:
      case DataType::kBfloat16:
        break;
    }
    return false;
  }

  const std::string& text() const { return text_; }

 private:
  template <typename T>
  bool has_number(const std::byte* data, std::size_t elements) const {
    for (std::size_t i = 0; i < elements; ++i) {
      T value;  // the memory need not be aligned
      std::memcpy(&value, data + i * sizeof(T), sizeof(T));
      if (static_cast<double>(value) == number_) return true;
    }
    return false;
  }

  const DataType type_;
  const std::string text_;
  double number_ = 0;
};

Signature make_signature(const std::vector<TensorSpec>& inputs) {
  if (inputs.empty()) {
    throw Error(ErrorCode::kInvalidInput, "engine 'echo': expected echo_inputs, got none");
  }
  Signature signature;
  signature.inputs = inputs;
  signature.outputs = inputs;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    signature.outputs[i].name = "output_" + std::to_string(i);
  }
  signature.is_batchable = has_free_rows(signature);
  signature.metadata["producer"] = "pyruntime echo";
  return signature;
}

// Where a run finds out on the stream's thread how long to take.
class EchoRunControl final : public RunControl {
 public:
  explicit EchoRunControl(std::chrono::microseconds delay) : delay_(delay) {}
  static void sleep_on_stream(void* control) {
    auto* const own = static_cast<EchoRunControl*>(control);
    own->sleep(own->delay_);
  }

 private:
  const std::chrono::microseconds delay_;
};

class EchoSession final : public Session {
 public:
  explicit EchoSession(const SessionOptions& options)
      : signature_(make_signature(options.echo_inputs)),
        captures_graphs_(options.captures_graphs),
        backend_(open_device(options.device)),
        device_pool_(backend_, {.placement = BufferPool::Placement::kDevice}),
        host_pool_(backend_, {.placement = BufferPool::Placement::kHost}) {
    for (const auto& [key, value] : options.config) {
      if (key == "echo.delay_us") {
        delay_ = std::chrono::microseconds(parse_number<uint32_t>(key, value));
      } else if (key == "echo.fail_value") {
        fail_value_.emplace(signature_.inputs[0].type, value);
      } else {
        throw Error(
            ErrorCode::kInvalidInput,
            "engine 'echo': expected config echo.delay_us or echo.fail_value, got '" + key + "'");
      }
    }
  }

  const Signature& signature() const override { return signature_; }
  Device device() const override { return backend_.device(); }
  const Placement& placement() const override {
    static const Placement nothing;
    return nothing;
  }

  // As those of the engine that has graphs.
  bool is_shareable() const override { return !captures_graphs_; }
  bool keeps_to_thread() const override { return captures_graphs_; }

  Status run(Stream& stream, std::span<const Tensor> inputs, std::span<Tensor> outputs,
             OutputMask wanted, RunControl* control) override {
    if (inputs.size() != signature_.inputs.size() || outputs.size() != signature_.outputs.size()) {
      return {ErrorCode::kInvalidInput,
              "engine 'echo': expected " + std::to_string(signature_.inputs.size()) +
                  " inputs and as many outputs, got " + std::to_string(inputs.size()) + " and " +
                  std::to_string(outputs.size())};
    }
    if (fail_value_) {
      if (Status status = look_for_fail_value(stream, inputs[0]); !status.ok()) return status;
    }
    if (delay_.count() > 0 && control != nullptr) {
      stream.call(EchoRunControl::sleep_on_stream, control);
      // On a device the run has only been given to the stream: nothing is known yet.
      if (backend_.is_host_accessible() && control->is_terminated()) {
        return {ErrorCode::kCancelled, "engine 'echo': the run was ended early"};
      }
    } else if (delay_.count() > 0) {
      stream.call(sleep, &delay_);
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (!wants(wanted, i)) continue;
      if (Status status = copy(stream, i, inputs[i], outputs[i]); !status.ok()) return status;
    }
    return {};
  }

  std::unique_ptr<BoundRun> bind(std::span<const Tensor> inputs,
                                 std::span<const Tensor> outputs) override;
  std::unique_ptr<BoundRun> capture(Stream& stream, std::span<const Tensor> inputs,
                                    std::span<const Tensor> outputs, int number) override;
  std::unique_ptr<RunControl> create_control() override {
    return std::make_unique<EchoRunControl>(delay_);
  }

 private:
  static void sleep(void* delay) {
    std::this_thread::sleep_for(*static_cast<const std::chrono::microseconds*>(delay));
  }

  Status look_for_fail_value(Stream& stream, const Tensor& input) {
    const std::byte* data = input.data;
    const std::size_t size_bytes = input.size_bytes();
    Buffer readable;
    if (input.type != DataType::kString && !backend_.is_host_accessible()) {
      Status status;
      readable = host_pool_.allocate(size_bytes, &status);
      if (!readable) return status;
      stream.copy(readable.data(), input.data, size_bytes, CopyKind::kDeviceToHost);
      if (status = stream.synchronize(); !status.ok()) return status;
      data = readable.data();
    }
    if (!fail_value_->is_in(data, size_bytes / element_size_bytes(input.type))) return {};
    return {ErrorCode::kEngineError, "engine 'echo': input '" + signature_.inputs[0].name +
                                         "': found echo.fail_value " + fail_value_->text()};
  }

  Status copy(Stream& stream, std::size_t i, const Tensor& input, Tensor& output) {
    Status status;
    const bool is_string = input.type == DataType::kString;
    if (output.data != nullptr) {
      if (is_string) {
        return {ErrorCode::kUnimplemented,
                "output '" + signature_.outputs[i].name + "': strings into memory of the caller"};
      }
      if (output.type != input.type || !(output.shape == input.shape)) {
        return {ErrorCode::kEngineError, "output '" + signature_.outputs[i].name + "': expected " +
                                             describe(input) + ", got memory for " +
                                             describe(output)};
      }
    } else {
      Buffer memory =
          is_string
              ? copy_strings({input.data_as<StringRef>(), input.size_bytes() / sizeof(StringRef)},
                             host_pool_, &status)
              : device_pool_.allocate(input.size_bytes(), &status);
      if (!memory) return status;
      output.type = input.type;
      output.device = is_string ? Device{} : backend_.device();
      output.shape = input.shape;
      output.data = memory.data();
      output.buffer = std::move(memory);
    }
    if (!is_string) {
      stream.copy(
          output.data, input.data, input.size_bytes(),
          backend_.is_host_accessible() ? CopyKind::kHostToHost : CopyKind::kDeviceToDevice);
    }
    return status;
  }

  // Constant after construction.
  const Signature signature_;
  const bool captures_graphs_;
  DeviceBackend& backend_;
  std::chrono::microseconds delay_{0};
  std::optional<ValueFinder> fail_value_;

  BufferPool device_pool_;  // synchronises itself
  BufferPool host_pool_;    // synchronises itself
};

class EchoBoundRun final : public BoundRun {
 public:
  EchoBoundRun(EchoSession& session, std::span<const Tensor> inputs,
               std::span<const Tensor> outputs)
      : session_(session),
        inputs_(inputs.begin(), inputs.end()),
        outputs_(outputs.begin(), outputs.end()) {}

  Status run(Stream& stream, RunControl* control) override {
    return session_.run(stream, inputs_, outputs_, kAllOutputs, control);
  }

 private:
  EchoSession& session_;
  const std::vector<Tensor> inputs_;
  std::vector<Tensor> outputs_;
};

// No graph, but as easily offended as one: it is the thread's that captured it.
class EchoCapturedRun final : public BoundRun {
 public:
  explicit EchoCapturedRun(std::unique_ptr<BoundRun> run) : run_(std::move(run)) {}

  Status run(Stream& stream, RunControl*) override {
    if (std::this_thread::get_id() != thread_) {
      return {ErrorCode::kEngineError,
              "engine 'echo': a graph is run by another thread than captured it"};
    }
    return run_->run(stream, nullptr);
  }

 private:
  const std::unique_ptr<BoundRun> run_;
  const std::thread::id thread_ = std::this_thread::get_id();
};

std::unique_ptr<BoundRun> EchoSession::capture(Stream& stream, std::span<const Tensor> inputs,
                                               std::span<const Tensor> outputs, int) {
  std::unique_ptr<BoundRun> run = bind(inputs, outputs);
  if (run == nullptr) throw Error(ErrorCode::kEngineError, "engine 'echo': nothing to capture");
  auto captured = std::make_unique<EchoCapturedRun>(std::move(run));
  captured->run(stream, nullptr).throw_if_failed();
  stream.synchronize().throw_if_failed();
  return captured;
}

std::unique_ptr<BoundRun> EchoSession::bind(std::span<const Tensor> inputs,
                                            std::span<const Tensor> outputs) {
  const auto is_free = [](const Tensor& tensor) {
    return tensor.data == nullptr || tensor.type == DataType::kString;
  };
  if (std::any_of(outputs.begin(), outputs.end(), is_free)) return nullptr;
  return std::make_unique<EchoBoundRun>(*this, inputs, outputs);
}

}  // namespace

extern const EngineEntry kEchoEngine;
constexpr EngineEntry kEchoEngine{
    .name = "echo",
    .load = [](const ModelSource&, const SessionOptions& options) -> std::unique_ptr<Session> {
      return std::make_unique<EchoSession>(options);
    },
    .version = [] { return std::string("1"); },
    .why_absent = [] { return std::string(); },
    .providers = [] { return std::vector<std::string>{}; },
};

}  // namespace pyruntime
