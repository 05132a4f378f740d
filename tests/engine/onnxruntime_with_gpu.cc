// ONNX Runtime as a GPU's build of it looks from outside, for tests on machines
// without a GPU: the real library, given a CUDA and a TensorRT provider. They
// take options as the real ones do and claim nodes, which the CPU then runs; on
// memory of a fake driver see fake_gpu_runs.h.
//
// In the environment:
//   PYRUNTIME_REAL_ONNXRUNTIME      path of the real library
//   PYRUNTIME_FAKE_LEAVES_CUDA      op types that CUDA does not claim: "Relu,Shape"
//   PYRUNTIME_FAKE_LEAVES_TENSORRT  the same of TensorRT
//   PYRUNTIME_FAKE_CUDA_LIBRARY     opened before CUDA's options are made, as
//                                   the real one opens its provider's library
//   PYRUNTIME_FAKE_LOG              file that gets a line for each provider that
//                                   is appended: "CUDAExecutionProvider device_id=1",
//                                   and for each run on device memory
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dlfcn.h>

#include "engine/fake_gpu_runs.h"
#include "engine/onnx_api.h"

namespace pyruntime::ort {

// What the library keeps of a provider's options.
struct OrtCUDAProviderOptionsV2 {
  std::string text;
};
struct OrtTensorRTProviderOptionsV2 {
  std::string text;
};

namespace {

constexpr std::size_t kSlots = 415;  // of version 24 of the interface
constexpr const char* kCpu = "CPUExecutionProvider";
constexpr const char* kCuda = "CUDAExecutionProvider";
constexpr const char* kTensorRt = "TensorrtExecutionProvider";

struct MadeWith {
  std::vector<const char*> providers;  // in their order
  std::string cuda_options;
  bool may_use_cpu = true;
};

struct Fake {
  Api real;
  OrtStatus* (*create_status)(int number, const char* text) = nullptr;
  std::array<const void*, kSlots> slots{};
  std::string version;

  std::mutex mutex;
  // Guarded by the mutex.
  std::map<const OrtSessionOptions*, MadeWith> options;
  std::map<const OrtSession*, MadeWith> sessions;
  std::map<const OrtEpAssignedSubgraph*, const char*> providers;
};

Fake& fake() {
  static Fake& instance = *new Fake;
  return instance;
}

const char* environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool lists(const char* variable, std::string_view word) {
  const std::string text = std::string(",") + environment(variable) + ",";
  return text.find("," + std::string(word) + ",") != std::string::npos;
}

OrtStatus* open_provider_library() {
  const char* const path = environment("PYRUNTIME_FAKE_CUDA_LIBRARY");
  if (*path == '\0' || dlopen(path, RTLD_NOW | RTLD_LOCAL) != nullptr) return nullptr;
  return fail(kFail, std::string("Failed to load library with error: ") + dlerror());
}

template <typename Options>
OrtStatus* create_options(Options** made) {
  if (OrtStatus* status = open_provider_library()) return status;
  *made = new Options;
  return nullptr;
}

template <typename Options>
OrtStatus* update_options(Options* options, const char* const* keys, const char* const* values,
                          std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    if (std::strncmp(keys[i], "no_such", 7) == 0) {
      return fail(kInvalidArgument, std::string("Unknown provider option: \"") + keys[i] + "\".");
    }
    options->text.append(" ").append(keys[i]).append("=").append(values[i]);
  }
  return nullptr;
}

template <typename Options>
void release_options(Options* options) {
  delete options;
}

OrtStatus* append(OrtSessionOptions* target, const char* provider, const std::string& text) {
  log_line(provider + text);
  const std::lock_guard lock(fake().mutex);
  MadeWith& made_with = fake().options[target];
  made_with.providers.push_back(provider);
  if (provider == kCuda) made_with.cuda_options = text;
  return nullptr;
}

OrtStatus* append_cuda(OrtSessionOptions* target, const OrtCUDAProviderOptionsV2* options) {
  return append(target, kCuda, options->text);
}

OrtStatus* append_tensorrt(OrtSessionOptions* target, const OrtTensorRTProviderOptionsV2* options) {
  return append(target, kTensorRt, options->text);
}

OrtStatus* get_available_providers(char*** names, int* count) {
  static constexpr std::array kNames{kTensorRt, kCuda, kCpu};
  *names = new char*[kNames.size()];
  for (std::size_t i = 0; i < kNames.size(); ++i) (*names)[i] = strdup(kNames[i]);
  *count = static_cast<int>(kNames.size());
  return nullptr;
}

OrtStatus* release_available_providers(char** names, int count) {
  for (char* name : std::span(names, static_cast<std::size_t>(count))) std::free(name);
  delete[] names;
  return nullptr;
}

// The real library knows no provider but the CPU's, and would refuse all.
OrtStatus* add_config(OrtSessionOptions* target, const char* key, const char* value) {
  if (std::strcmp(key, "session.disable_cpu_ep_fallback") == 0) {
    const std::lock_guard lock(fake().mutex);
    if (const auto found = fake().options.find(target); found != fake().options.end()) {
      found->second.may_use_cpu = std::strcmp(value, "1") != 0;
      return nullptr;
    }
  }
  return fake().real.AddSessionConfigEntry(target, key, value);
}

const char* claimant(const MadeWith& made_with, const char* op_type) {
  for (const char* const provider : made_with.providers) {
    const char* const leaves =
        provider == kCuda ? "PYRUNTIME_FAKE_LEAVES_CUDA" : "PYRUNTIME_FAKE_LEAVES_TENSORRT";
    if (!lists(leaves, op_type)) return provider;
  }
  return kCpu;
}

// The CPU's graphs are of one node each.
OrtStatus* read_assignment(const OrtSession* session, const OrtEpAssignedSubgraph* const** graphs,
                           std::size_t* count) {
  const Api& real = fake().real;
  if (OrtStatus* status = real.Session_GetEpGraphAssignmentInfo(session, graphs, count)) {
    return status;
  }
  const std::lock_guard lock(fake().mutex);
  const auto made_with = fake().sessions.find(session);
  if (made_with == fake().sessions.end()) return nullptr;
  for (const OrtEpAssignedSubgraph* const graph : std::span(*graphs, *count)) {
    const OrtEpAssignedNode* const* nodes = nullptr;
    std::size_t node_count = 0;
    const char* op_type = nullptr;
    if (OrtStatus* status = real.EpAssignedSubgraph_GetNodes(graph, &nodes, &node_count)) {
      return status;
    }
    if (OrtStatus* status = real.EpAssignedNode_GetOperatorType(nodes[0], &op_type)) return status;
    fake().providers[graph] = claimant(made_with->second, op_type);
  }
  return nullptr;
}

OrtStatus* get_provider(const OrtEpAssignedSubgraph* graph, const char** name) {
  const std::lock_guard lock(fake().mutex);
  const auto found = fake().providers.find(graph);
  if (found == fake().providers.end()) {
    return fake().real.EpAssignedSubgraph_GetEpName(graph, name);
  }
  *name = found->second;
  return nullptr;
}

// What the library does after a session was made: with fake providers it may
// refuse the session.
OrtStatus* admit(const OrtSessionOptions* options, OrtSession** session) {
  MadeWith made_with;
  {
    const std::lock_guard lock(fake().mutex);
    const auto found = fake().options.find(options);
    if (found == fake().options.end()) return nullptr;
    made_with = fake().sessions[*session] = found->second;
  }
  note_session(*session, made_with.cuda_options);
  if (made_with.may_use_cpu) return nullptr;
  const OrtEpAssignedSubgraph* const* graphs = nullptr;
  std::size_t count = 0;
  if (OrtStatus* status = read_assignment(*session, &graphs, &count)) return status;
  for (const OrtEpAssignedSubgraph* const graph : std::span(graphs, count)) {
    const char* provider = nullptr;
    if (OrtStatus* status = get_provider(graph, &provider)) return status;
    if (std::strcmp(provider, kCpu) != 0) continue;
    fake().real.ReleaseSession(*session);
    *session = nullptr;
    return fail(kFail,
                "This session contains graph nodes that are assigned to the default CPU EP, but "
                "fallback to CPU EP has been explicitly disabled by the user.");
  }
  return nullptr;
}

OrtStatus* create_session(const OrtEnv* environment, const char* path,
                          const OrtSessionOptions* options, OrtSession** session) {
  OrtStatus* const status = fake().real.CreateSession(environment, path, options, session);
  return status != nullptr ? status : admit(options, session);
}

OrtStatus* create_session_from_array(const OrtEnv* environment, const void* bytes, std::size_t size,
                                     const OrtSessionOptions* options, OrtSession** session) {
  OrtStatus* const status =
      fake().real.CreateSessionFromArray(environment, bytes, size, options, session);
  return status != nullptr ? status : admit(options, session);
}

void release_session(OrtSession* session) {
  forget_session(session);
  {
    const std::lock_guard lock(fake().mutex);
    fake().sessions.erase(session);
  }
  fake().real.ReleaseSession(session);
}

void release_session_options(OrtSessionOptions* options) {
  {
    const std::lock_guard lock(fake().mutex);
    fake().options.erase(options);
  }
  fake().real.ReleaseSessionOptions(options);
}

}  // namespace

OrtStatus* fail(int number, const std::string& text) {
  return fake().create_status(number, text.c_str());
}

void log_line(const std::string& line) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (const char* const path = environment("PYRUNTIME_FAKE_LOG"); *path != '\0') {
    std::ofstream(path, std::ios::app) << line << '\n';
  }
}

namespace {

template <typename Function>
void replace(std::size_t slot, Function function) {
  fake().slots[slot] = reinterpret_cast<const void*>(function);
}

void make(const void* const* slots) {
  std::copy(slots, slots + kSlots, fake().slots.begin());
  Api& real = fake().real;
#define PYRUNTIME_RESOLVE(slot, name, returns, parameters) \
  real.name = reinterpret_cast<decltype(real.name)>(const_cast<void*>(slots[slot]));
  PYRUNTIME_ONNX_FUNCTIONS(PYRUNTIME_RESOLVE)
#undef PYRUNTIME_RESOLVE
  fake().create_status =
      reinterpret_cast<decltype(fake().create_status)>(const_cast<void*>(slots[0]));
  replace(7, &create_session);
  replace(8, &create_session_from_array);
  replace(95, &release_session);
  replace(100, &release_session_options);
  replace(125, &get_available_providers);
  replace(126, &release_available_providers);
  replace(130, &add_config);
  replace(170, &append_tensorrt);
  replace(171, &create_options<OrtTensorRTProviderOptionsV2>);
  replace(172, &update_options<OrtTensorRTProviderOptionsV2>);
  replace(174, &release_options<OrtTensorRTProviderOptionsV2>);
  replace(204, &append_cuda);
  replace(205, &create_options<OrtCUDAProviderOptionsV2>);
  replace(206, &update_options<OrtCUDAProviderOptionsV2>);
  replace(208, &release_options<OrtCUDAProviderOptionsV2>);
  replace(407, &read_assignment);
  replace(408, &get_provider);
  replace_runs(real, slots, fake().slots.data());
}

const ApiBase* real_base() {
  const char* const path = environment("PYRUNTIME_REAL_ONNXRUNTIME");
  void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::fprintf(stderr, "PYRUNTIME_REAL_ONNXRUNTIME='%s': %s\n", path, dlerror());
    std::abort();
  }
  return reinterpret_cast<const ApiBase* (*)()>(dlsym(library, "OrtGetApiBase"))();
}

}  // namespace
}  // namespace pyruntime::ort

extern "C" __attribute__((visibility("default"))) const pyruntime::ort::ApiBase* OrtGetApiBase() {
  using namespace pyruntime::ort;  // NOLINT(google-build-using-namespace)
  static const ApiBase base{
      .GetApi = [](uint32_t version) -> const void* {
        static std::once_flag once;
        std::call_once(once, [version] {
          make(static_cast<const void* const*>(real_base()->GetApi(version)));
        });
        return fake().slots.data();
      },
      .GetVersionString = [] { return real_base()->GetVersionString(); },
  };
  return &base;
}
