#include "engine/onnx_providers.h"

#include <algorithm>
#include <cctype>

#include "engine/onnx_environment.h"

namespace pyruntime::ort {
namespace {

constexpr std::string_view kSuffix = "executionprovider";
constexpr const char* kDeviceOption = "device_id";

// "CUDAExecutionProvider" -> "cuda"
std::string short_name(std::string_view name) {
  std::string text(name);
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (text.ends_with(kSuffix)) text.resize(text.size() - kSuffix.size());
  return text;
}

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text.append(text.empty() ? "" : ", ").append(name);
  return text;
}

bool is_of_gpu(std::string_view name) { return name == "cuda" || name == "tensorrt"; }

std::string what_to_install(std::string_view provider) {
  if (is_of_gpu(short_name(provider))) {
    return "install pyruntime[cuda12] or pyruntime[cuda13], without the onnxruntime wheel that "
           "[cpu] brings";
  }
  return "install a build of ONNX Runtime that has it";
}

// A provider's options as the library takes them; borrows from `provider`.
struct KeysAndValues {
  explicit KeysAndValues(const ProviderOptions& provider) {
    for (const auto& [key, value] : provider.options) {
      keys.push_back(key.c_str());
      values.push_back(value.c_str());
    }
  }
  std::vector<const char*> keys;
  std::vector<const char*> values;
};

// Of a provider whose options are an object of their own.
template <typename Owner, typename Options>
struct OptionCalls {
  OrtStatus* (*Api::*create)(Options**);
  std::string_view create_name;
  OrtStatus* (*Api::*update)(Options*, const char* const*, const char* const*, std::size_t);
  std::string_view update_name;
  OrtStatus* (*Api::*append)(OrtSessionOptions*, const Options*);
  std::string_view append_name;
};

constexpr OptionCalls<CudaOptions, OrtCUDAProviderOptionsV2> kCudaCalls{
    .create = &Api::CreateCUDAProviderOptions,
    .create_name = "CreateCUDAProviderOptions",
    .update = &Api::UpdateCUDAProviderOptions,
    .update_name = "UpdateCUDAProviderOptions",
    .append = &Api::SessionOptionsAppendExecutionProvider_CUDA_V2,
    .append_name = "SessionOptionsAppendExecutionProvider_CUDA_V2",
};

constexpr OptionCalls<TensorRtOptions, OrtTensorRTProviderOptionsV2> kTensorRtCalls{
    .create = &Api::CreateTensorRTProviderOptions,
    .create_name = "CreateTensorRTProviderOptions",
    .update = &Api::UpdateTensorRTProviderOptions,
    .update_name = "UpdateTensorRTProviderOptions",
    .append = &Api::SessionOptionsAppendExecutionProvider_TensorRT_V2,
    .append_name = "SessionOptionsAppendExecutionProvider_TensorRT_V2",
};

template <typename Owner, typename Options>
void append_with(const OptionCalls<Owner, Options>& calls, OrtSessionOptions* target,
                 const ProviderOptions& provider, const std::string& where) {
  const KeysAndValues given(provider);
  Options* made = nullptr;
  // Loads the provider's own library, and fails when that or one it needs does not load.
  check((api().*calls.create)(&made), calls.create_name, where, ErrorCode::kUnavailable);
  const Owner options(made);
  check((api().*calls.update)(made, given.keys.data(), given.values.data(), given.keys.size()),
        calls.update_name, where, ErrorCode::kInvalidInput);
  check((api().*calls.append)(target, made), calls.append_name, where, ErrorCode::kUnavailable);
}

void append_provider(OrtSessionOptions* target, const std::string& full_name,
                     const ProviderOptions& provider) {
  const std::string where = "provider '" + provider.name + "'";
  if (full_name == kCpuProvider) {
    // Always there, after all others.
    if (provider.options.empty()) return;
    throw Error(ErrorCode::kInvalidInput,
                where + ": expected no options, got '" + provider.options[0].first + "'");
  }
  if (full_name == kCudaProvider) return append_with(kCudaCalls, target, provider, where);
  if (full_name == kTensorRtProvider) return append_with(kTensorRtCalls, target, provider, where);
  const KeysAndValues given(provider);
  check(api().SessionOptionsAppendExecutionProvider(target, full_name.c_str(), given.keys.data(),
                                                    given.values.data(), given.keys.size()),
        "SessionOptionsAppendExecutionProvider", where, ErrorCode::kUnavailable);
}

}  // namespace

std::string find_provider(const std::vector<std::string>& available, std::string_view name) {
  const auto found = std::find_if(
      available.begin(), available.end(),
      [&](const std::string& full_name) { return short_name(full_name) == short_name(name); });
  return found == available.end() ? std::string() : *found;
}

bool is_provider(std::string_view name, std::string_view full_name) {
  return short_name(name) == short_name(full_name);
}

void throw_absent(const std::string& what, std::string_view provider,
                  const std::vector<std::string>& available) {
  throw Error(ErrorCode::kUnavailable, what + ": not in this ONNX Runtime, which has " +
                                           join(available) + "; " + what_to_install(provider));
}

std::vector<ProviderOptions> providers_on(Device device, std::vector<ProviderOptions> providers) {
  if (device.kind != DeviceKind::kCuda) return providers;
  if (providers.empty()) providers.push_back({.name = "cuda"});
  const std::string index = std::to_string(device.index);
  for (ProviderOptions& provider : providers) {
    if (!is_of_gpu(short_name(provider.name))) continue;
    const auto given =
        std::find_if(provider.options.begin(), provider.options.end(),
                     [](const auto& option) { return option.first == kDeviceOption; });
    if (given == provider.options.end()) {
      provider.options.emplace_back(kDeviceOption, index);
    } else if (given->second != index) {
      throw Error(ErrorCode::kInvalidInput,
                  "provider '" + provider.name + "': device_id: expected " + index +
                      ", as the model is on device '" + device.name() + "', got " + given->second);
    }
  }
  return providers;
}

bool may_use_cpu(const std::vector<ProviderOptions>& providers) {
  const std::string cpu = short_name(kCpuProvider);
  return providers.empty() ||
         std::any_of(providers.begin(), providers.end(),
                     [&](const ProviderOptions& one) { return short_name(one.name) == cpu; });
}

void append_providers(OrtSessionOptions* target, const std::vector<ProviderOptions>& providers) {
  if (providers.empty()) return;
  const std::vector<std::string> available = available_providers();
  for (const ProviderOptions& provider : providers) {
    const std::string full_name = find_provider(available, provider.name);
    if (full_name.empty()) {
      throw_absent("provider '" + provider.name + "'", provider.name, available);
    }
    append_provider(target, full_name, provider);
  }
}

}  // namespace pyruntime::ort
