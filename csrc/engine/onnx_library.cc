#include "engine/onnx_library.h"

#include <atomic>
#include <mutex>

#include <dlfcn.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): setenv() is POSIX's

#include "engine/onnx_api.h"
#include "engine/onnx_environment.h"

namespace pyruntime {
namespace {

struct Library {
  std::mutex mutex;
  // Guarded by the mutex.
  OnnxLibraryOptions options;
  std::string version;
  ort::OrtEnv* environment = nullptr;
  bool has_global_pool = false;
  // Set once, before is_loaded; then constant.
  ort::Api api;
  ort::OrtMemoryInfo* cpu_memory = nullptr;
  ort::OrtAllocator* default_allocator = nullptr;

  std::atomic<bool> is_loaded{false};
};

Library& library() {
  // Never destroyed: sessions and outputs may be released after main().
  static Library& instance = *new Library;
  return instance;
}

constexpr const char* kInstall =
    "install one, for example: pip install 'pyruntime[cpu]' (or [cuda12], [cuda13])";

// The library stays loaded for good, unless it proves unusable.
ort::Api open_library(const std::string& path, std::string* version) {
  setenv("ORT_DISABLE_TELEMETRY", "1", 1);
  const std::string name = path.empty() ? "libonnxruntime.so.1" : path;
  void* const handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* const reason = dlerror();
    throw Error(ErrorCode::kUnavailable,
                "ONNX Runtime at '" + name +
                    "': dlopen: " + (reason == nullptr ? "failed" : reason) + "; " + kInstall);
  }
  using GetApiBase = const ort::ApiBase* (*)();
  const auto get_api_base = reinterpret_cast<GetApiBase>(dlsym(handle, "OrtGetApiBase"));
  if (get_api_base == nullptr) {
    dlclose(handle);
    throw Error(ErrorCode::kUnavailable, "ONNX Runtime at '" + name +
                                             "': dlsym: no OrtGetApiBase, so not ONNX Runtime; " +
                                             kInstall);
  }
  const ort::ApiBase& base = *get_api_base();
  *version = base.GetVersionString();
  try {
    return ort::resolve_api(base, name);
  } catch (...) {
    dlclose(handle);
    throw;
  }
}

void load_locked(Library& self) {
  if (self.is_loaded.load(std::memory_order_relaxed)) return;
  self.api = open_library(self.options.path, &self.version);
  // From here on ort::api() works.
  self.is_loaded.store(true, std::memory_order_release);  // pairs with the acquires below
}

void check_pool_options(const OnnxLibraryOptions& options) {
  if (options.global_intra_op_threads < 0 || options.global_inter_op_threads < 0) {
    throw Error(ErrorCode::kInvalidInput,
                "threads of ONNX Runtime's global pool: expected 0 or more, got " +
                    std::to_string(options.global_intra_op_threads) + " and " +
                    std::to_string(options.global_inter_op_threads));
  }
}

void make_environment(Library& self, bool with_pool) {
  constexpr const char* kName = "pyruntime";
  if (with_pool) {
    const auto threads =
        ort::make<ort::ThreadingOptions>(&ort::Api::CreateThreadingOptions, "ThreadingOptions");
    const OnnxLibraryOptions& options = self.options;
    ort::check(self.api.SetGlobalIntraOpNumThreads(threads.get(), options.global_intra_op_threads),
               "SetGlobalIntraOpNumThreads");
    ort::check(self.api.SetGlobalInterOpNumThreads(threads.get(), options.global_inter_op_threads),
               "SetGlobalInterOpNumThreads");
    ort::check(self.api.SetGlobalSpinControl(threads.get(), options.global_allow_spinning ? 1 : 0),
               "SetGlobalSpinControl");
    ort::check(self.api.CreateEnvWithGlobalThreadPools(ort::kError, kName, threads.get(),
                                                       &self.environment),
               "CreateEnvWithGlobalThreadPools");
  } else {
    ort::check(self.api.CreateEnv(ort::kError, kName, &self.environment), "CreateEnv");
  }
  self.has_global_pool = with_pool;
  ort::check(self.api.DisableTelemetryEvents(self.environment), "DisableTelemetryEvents");
  ort::check(
      self.api.CreateCpuMemoryInfo(ort::kDeviceAllocator, ort::kMemoryDefault, &self.cpu_memory),
      "CreateCpuMemoryInfo");
  ort::check(self.api.GetAllocatorWithDefaultOptions(&self.default_allocator),
             "GetAllocatorWithDefaultOptions");
}

}  // namespace

void configure_onnx_library(const OnnxLibraryOptions& options) {
  check_pool_options(options);
  Library& self = library();
  const std::lock_guard lock(self.mutex);
  if (self.is_loaded.load(std::memory_order_relaxed) && !(options == self.options)) {
    throw Error(ErrorCode::kInvalidInput,
                "ONNX Runtime " + self.version + " is already loaded from '" + self.options.path +
                    "', with other options; configure it before the first model is loaded");
  }
  self.options = options;
}

void load_onnx_library() {
  Library& self = library();
  const std::lock_guard lock(self.mutex);
  load_locked(self);
}

bool is_onnx_library_loaded() { return library().is_loaded.load(std::memory_order_acquire); }

std::string onnx_library_version() {
  Library& self = library();
  const std::lock_guard lock(self.mutex);
  return self.is_loaded.load(std::memory_order_relaxed) ? self.version : std::string();
}

namespace ort {

const Api& api() { return library().api; }

OrtEnv* environment(bool needs_global_pool) {
  Library& self = library();
  const std::lock_guard lock(self.mutex);
  load_locked(self);
  if (self.environment == nullptr) {
    make_environment(self, needs_global_pool || self.options.create_global_pool);
  }
  if (needs_global_pool && !self.has_global_pool) {
    throw Error(ErrorCode::kInvalidInput,
                "ONNX Runtime's global thread pool: it must be asked for before the first model "
                "is loaded (create_global_pool), and this process has loaded one without it");
  }
  return self.environment;
}

const OrtMemoryInfo* cpu_memory() { return library().cpu_memory; }

OrtAllocator* default_allocator() { return library().default_allocator; }

std::vector<std::string> available_providers() {
  load_onnx_library();
  char** names = nullptr;
  int count = 0;
  check(api().GetAvailableProviders(&names, &count), "GetAvailableProviders");
  std::vector<std::string> providers(names, names + count);
  check(api().ReleaseAvailableProviders(names, count), "ReleaseAvailableProviders");
  return providers;
}

}  // namespace ort
}  // namespace pyruntime
