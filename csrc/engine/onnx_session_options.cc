#include "engine/onnx_session_options.h"

#include <algorithm>
#include <cctype>
#include <exception>
#include <filesystem>
#include <memory>
#include <thread>

#include "engine/onnx_environment.h"

namespace pyruntime::ort {
namespace {

constexpr std::string_view kSuffix = "ExecutionProvider";
constexpr std::string_view kCpuProvider = "CPUExecutionProvider";
constexpr std::string_view kCudaProvider = "CUDAExecutionProvider";

// "CUDAExecutionProvider" -> "cuda"
std::string short_name(std::string_view name) {
  if (name.ends_with(kSuffix)) name.remove_suffix(kSuffix.size());
  std::string text(name);
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text.append(text.empty() ? "" : ", ").append(name);
  return text;
}

std::string what_to_install(const std::string& provider) {
  const std::string name = short_name(provider);
  if (name == "cuda" || name == "tensorrt") {
    return "install pyruntime[cuda12] or pyruntime[cuda13], without the onnxruntime wheel that "
           "[cpu] brings";
  }
  return "install a build of ONNX Runtime that has it";
}

[[noreturn]] void throw_absent(const std::string& what, const std::string& provider,
                               const std::vector<std::string>& available) {
  throw Error(ErrorCode::kUnavailable, what + ": not in this ONNX Runtime, which has " +
                                           join(available) + "; " + what_to_install(provider));
}

void check_device(Device device) {
  switch (device.kind) {
    case DeviceKind::kCpu:
      return;
    case DeviceKind::kSimulated:
      throw Error(ErrorCode::kInvalidInput,
                  "device '" + device.name() + "': engine 'onnx' runs on cpu; use engine 'echo'");
    case DeviceKind::kCuda: {
      const std::vector<std::string> available = available_providers();
      if (find_provider(available, "cuda").empty()) {
        throw_absent("device '" + device.name() + "': provider 'cuda'", "cuda", available);
      }
      throw Error(ErrorCode::kUnimplemented,
                  "device '" + device.name() +
                      "': engine 'onnx' keeps inputs and outputs on cpu so far; ask for provider "
                      "'cuda' on device 'cpu'");
    }
  }
}

void check_threads(std::string_view name, int threads) {
  if (threads >= 0) return;
  throw Error(ErrorCode::kInvalidInput,
              std::string(name) + ": expected 0 or more, got " + std::to_string(threads));
}

int graph_level(GraphOptimization optimization) {
  switch (optimization) {
    case GraphOptimization::kNone:
      return 0;
    case GraphOptimization::kBasic:
      return 1;
    case GraphOptimization::kExtended:
      return 2;
    case GraphOptimization::kAll:
      break;
  }
  return 99;
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

void append_provider(OrtSessionOptions* target, const std::string& full_name,
                     const ProviderOptions& provider) {
  const std::string where = "provider '" + provider.name + "'";
  const KeysAndValues given(provider);
  if (full_name == kCpuProvider) {
    // Always there, after all others.
    if (provider.options.empty()) return;
    throw Error(ErrorCode::kInvalidInput,
                where + ": expected no options, got '" + provider.options[0].first + "'");
  }
  if (full_name == kCudaProvider) {
    const auto cuda =
        make<CudaOptions>(&Api::CreateCUDAProviderOptions, "CreateCUDAProviderOptions");
    check(api().UpdateCUDAProviderOptions(cuda.get(), given.keys.data(), given.values.data(),
                                          given.keys.size()),
          "UpdateCUDAProviderOptions", where, ErrorCode::kInvalidInput);
    // Fails when the provider's own library or the driver does not load.
    check(api().SessionOptionsAppendExecutionProvider_CUDA_V2(target, cuda.get()),
          "SessionOptionsAppendExecutionProvider_CUDA_V2", where, ErrorCode::kUnavailable);
    return;
  }
  check(api().SessionOptionsAppendExecutionProvider(target, full_name.c_str(), given.keys.data(),
                                                    given.values.data(), given.keys.size()),
        "SessionOptionsAppendExecutionProvider", where, ErrorCode::kUnavailable);
}

void add_config(OrtSessionOptions* target, const std::string& key, const std::string& value) {
  check(api().AddSessionConfigEntry(target, key.c_str(), value.c_str()), "AddSessionConfigEntry",
        "config '" + key + "'", ErrorCode::kInvalidInput);
}

void append_providers(OrtSessionOptions* target, const std::vector<ProviderOptions>& providers) {
  if (providers.empty()) return;
  const std::vector<std::string> available = available_providers();
  bool has_cpu = false;
  for (const ProviderOptions& provider : providers) {
    const std::string full_name = find_provider(available, provider.name);
    if (full_name.empty()) {
      throw_absent("provider '" + provider.name + "'", provider.name, available);
    }
    has_cpu |= full_name == kCpuProvider;
    append_provider(target, full_name, provider);
  }
  // Else what a provider cannot run would quietly run on the CPU.
  if (!has_cpu) add_config(target, "session.disable_cpu_ep_fallback", "1");
}

void set_threads(OrtSessionOptions* target, const pyruntime::SessionOptions& options) {
  if (options.use_global_pool) {
    check(api().DisablePerSessionThreads(target), "DisablePerSessionThreads");
    return;
  }
  check(api().SetIntraOpNumThreads(target, options.intra_op_threads), "SetIntraOpNumThreads");
  check(api().SetInterOpNumThreads(target, options.inter_op_threads), "SetInterOpNumThreads");
  const char* spins = options.allow_spinning ? "1" : "0";
  add_config(target, "session.intra_op.allow_spinning", spins);
  add_config(target, "session.inter_op.allow_spinning", spins);
}

// The library knows threads by a handle of no type; here it is a std::thread.
const OrtCustomHandleType* create_thread(void* maker, void (*body)(void*), void* argument) {
  try {
    auto made = std::make_unique<std::thread>(
        static_cast<ThreadMaker*>(maker)->make([body, argument] { body(argument); }));
    return reinterpret_cast<const OrtCustomHandleType*>(made.release());
  } catch (const std::exception&) {
    return nullptr;  // the library then fails to make the session
  }
}

void join_thread(const OrtCustomHandleType* handle) {
  const std::unique_ptr<std::thread> thread(
      reinterpret_cast<std::thread*>(const_cast<OrtCustomHandleType*>(handle)));
  thread->join();
}

void set_thread_maker(OrtSessionOptions* target, ThreadMaker* maker) {
  check(api().SessionOptionsSetCustomCreateThreadFn(target, &create_thread),
        "SessionOptionsSetCustomCreateThreadFn");
  check(api().SessionOptionsSetCustomThreadCreationOptions(target, maker),
        "SessionOptionsSetCustomThreadCreationOptions");
  check(api().SessionOptionsSetCustomJoinThreadFn(target, &join_thread),
        "SessionOptionsSetCustomJoinThreadFn");
}

}  // namespace

std::string find_provider(const std::vector<std::string>& available, const std::string& name) {
  const auto found = std::find_if(
      available.begin(), available.end(),
      [&](const std::string& full_name) { return short_name(full_name) == short_name(name); });
  return found == available.end() ? std::string() : *found;
}

SessionOptions make_session_options(const pyruntime::SessionOptions& options,
                                    const ModelSource& source) {
  check_threads("intra_op_threads", options.intra_op_threads);
  check_threads("inter_op_threads", options.inter_op_threads);
  check_device(options.device);

  auto made = make<SessionOptions>(&Api::CreateSessionOptions, "CreateSessionOptions");
  OrtSessionOptions* const target = made.get();
  // What fails is returned, so the log would only repeat it.
  check(api().SetSessionLogSeverityLevel(target, kFatal), "SetSessionLogSeverityLevel");
  check(api().SetSessionGraphOptimizationLevel(target, graph_level(options.graph_optimization)),
        "SetSessionGraphOptimizationLevel");
  set_threads(target, options);
  if (options.thread_maker != nullptr) set_thread_maker(target, options.thread_maker);
  if (options.inter_op_threads != 1) {
    check(api().SetSessionExecutionMode(target, kParallel), "SetSessionExecutionMode");
  }
  if (!options.use_arena) check(api().DisableCpuMemArena(target), "DisableCpuMemArena");
  append_providers(target, options.providers);
  if (!source.bytes.empty() && !source.path.empty()) {
    const std::string folder = std::filesystem::path(source.path).parent_path().string();
    add_config(target, "session.model_external_initializers_file_folder_path",
               folder.empty() ? "." : folder);
  }
  for (const auto& [key, value] : options.config) add_config(target, key, value);
  return made;
}

}  // namespace pyruntime::ort
