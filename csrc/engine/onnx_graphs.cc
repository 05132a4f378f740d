#include "engine/onnx_graphs.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/onnx_providers.h"

namespace pyruntime::ort {
namespace {

constexpr std::array<std::string_view, 3> kControlFlow{"If", "Loop", "Scan"};

constexpr const char* kStream = "user_compute_stream";
constexpr const char* kHasStream = "has_user_compute_stream";
constexpr const char* kCapture = "enable_cuda_graph";
constexpr const char* kTensorRtCapture = "trt_cuda_graph_enable";

[[noreturn]] void refuse(const std::string& reason) {
  throw Error(ErrorCode::kInvalidInput, "cuda_graphs: " + reason);
}

void refuse_option(const ProviderOptions& provider, std::string_view key, const char* instead) {
  const auto given =
      std::ranges::find(provider.options, key, &std::pair<std::string, std::string>::first);
  if (given == provider.options.end() || given->second == "0") return;
  throw Error(ErrorCode::kInvalidInput, "provider '" + provider.name + "': " + std::string(key) +
                                            ": expected none on a CUDA device, " + instead +
                                            ", got '" + given->second + "'");
}

void refuse_strings(const std::vector<TensorSpec>& specs, const char* what) {
  for (const TensorSpec& spec : specs) {
    if (spec.type != DataType::kString) continue;
    refuse(std::string(what) + " '" + spec.name + "' is of strings, which no GPU holds");
  }
}

}  // namespace

void require_capturable(const Signature& signature, const Placement& placement) {
  refuse_strings(signature.inputs, "input");
  refuse_strings(signature.outputs, "output");
  for (const PlacedNode& node : placement) {
    if (std::ranges::find(kControlFlow, node.op_type) == kControlFlow.end()) continue;
    refuse("node '" + node.name + "' (" + node.op_type +
           ") decides while it runs what is run, which a graph cannot");
  }
  for (const ProviderNodes& nodes : count_by_provider(placement)) {
    if (nodes.provider == kCudaProvider) continue;
    refuse("expected all nodes on " + std::string(kCudaProvider) + ", got some on " +
           nodes.provider + ": " + describe_nodes_of(placement, nodes.provider));
  }
}

pyruntime::SessionOptions on_stream(pyruntime::SessionOptions options, const void* stream) {
  options.providers = providers_on(options.device, std::move(options.providers));
  const std::string address = std::to_string(reinterpret_cast<std::uintptr_t>(stream));
  for (ProviderOptions& provider : options.providers) {
    const bool is_cuda = is_provider(provider.name, kCudaProvider);
    if (!is_cuda && !is_provider(provider.name, kTensorRtProvider)) continue;
    refuse_option(provider, kStream, "where an instance's stream is given");
    refuse_option(provider, kHasStream, "where an instance's stream is given");
    refuse_option(provider, kCapture, "but ModelOptions.cuda_graphs");
    refuse_option(provider, kTensorRtCapture, "where addresses change from run to run");
    provider.options.emplace_back(kStream, address);
    if (!is_cuda) provider.options.emplace_back(kHasStream, "1");
    if (is_cuda && options.captures_graphs) provider.options.emplace_back(kCapture, "1");
  }
  return options;
}

}  // namespace pyruntime::ort
