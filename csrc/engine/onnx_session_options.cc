#include "engine/onnx_session_options.h"

#include <exception>
#include <filesystem>
#include <memory>
#include <thread>

#include "engine/onnx_environment.h"
#include "engine/onnx_placement.h"
#include "engine/onnx_providers.h"

namespace pyruntime::ort {
namespace {

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
      return;
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

void add_config(OrtSessionOptions* target, const std::string& key, const std::string& value) {
  check(api().AddSessionConfigEntry(target, key.c_str(), value.c_str()), "AddSessionConfigEntry",
        "config '" + key + "'", ErrorCode::kInvalidInput);
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
  const auto providers = providers_on(options.device, options.providers);
  append_providers(target, providers);
  add_config(target, kRecordPlacement, "1");
  // Else what a provider cannot run would quietly run on the CPU.
  if (!may_use_cpu(providers)) add_config(target, kDisableCpuFallback, "1");
  if (!source.bytes.empty() && !source.path.empty()) {
    const std::string folder = std::filesystem::path(source.path).parent_path().string();
    add_config(target, "session.model_external_initializers_file_folder_path",
               folder.empty() ? "." : folder);
  }
  for (const auto& [key, value] : options.config) add_config(target, key, value);
  return made;
}

}  // namespace pyruntime::ort
