// Execution providers of ONNX Runtime: found by name, their options told.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/onnx_api.h"
#include "engine/session.h"

namespace pyruntime::ort {

inline constexpr std::string_view kCpuProvider = "CPUExecutionProvider";
inline constexpr std::string_view kCudaProvider = "CUDAExecutionProvider";
inline constexpr std::string_view kTensorRtProvider = "TensorrtExecutionProvider";

// The full name among `available` that `name` ("cuda", "CUDAExecutionProvider")
// means, whatever its case; empty when there is none.
std::string find_provider(const std::vector<std::string>& available, std::string_view name);

// Whether `name`, short or full and whatever its case, means that provider.
bool is_provider(std::string_view name, std::string_view full_name);

// Throws Unavailable: names `what`, the providers that are there, and what to
// install to have `provider`.
[[noreturn]] void throw_absent(const std::string& what, std::string_view provider,
                               const std::vector<std::string>& available);

// What a model on `device` runs on: on a GPU its `device_id` is added to the
// providers of GPUs, and "cuda" is meant where none is named. Throws
// InvalidInput where they name another one.
std::vector<ProviderOptions> providers_on(Device device, std::vector<ProviderOptions> providers);

// Whether nodes that no other provider runs may run on the CPU: it is among
// the providers, or no provider is named.
bool may_use_cpu(const std::vector<ProviderOptions>& providers);

// Appends `providers` in their order. Throws InvalidInput (an option that a
// provider refuses) or Unavailable (a provider that is absent or does not load).
void append_providers(OrtSessionOptions* target, const std::vector<ProviderOptions>& providers);

}  // namespace pyruntime::ort
