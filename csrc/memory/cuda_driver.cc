#include "memory/cuda_driver.h"

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>

#include <dlfcn.h>

#include "base/error.h"
#include "base/fork.h"
#include "memory/device_cuda.h"

namespace pyruntime {
namespace cuda {
namespace {

constexpr const char* kDefaultPath = "libcuda.so.1";

Error unavailable(const std::string& path, const std::string& what) {
  return {ErrorCode::kUnavailable, "CUDA driver '" + path + "': " + what};
}

template <typename... Parameters>
bool find(void* library, Call<Parameters...>* call) {
  call->function = reinterpret_cast<Result (*)(Parameters...)>(dlsym(library, call->name));
  return call->function != nullptr;
}

void find_all(void* library, Driver* driver) {
#define PYRUNTIME_FIND(member, name, ...)                                         \
  if (!find(library, &driver->member)) {                                          \
    throw unavailable(driver->path, "dlsym: no " name "; a newer driver has it"); \
  }
  PYRUNTIME_CUDA_CALLS(PYRUNTIME_FIND)
#undef PYRUNTIME_FIND
#define PYRUNTIME_FIND(member, name, ...) find(library, &driver->member);
  PYRUNTIME_CUDA_OPTIONAL_CALLS(PYRUNTIME_FIND)
#undef PYRUNTIME_FIND
}

void start(Driver* driver) {
  const auto check = [&](const char* call, Result result) {
    if (result != kSuccess) throw unavailable(driver->path, driver->describe(call, result));
  };
  check("cuInit", driver->cuInit.function(0));
  check("cuDriverGetVersion", driver->cuDriverGetVersion.function(&driver->version));
  check("cuDeviceGetCount", driver->cuDeviceGetCount.function(&driver->device_count));
  if (driver->device_count == 0) throw unavailable(driver->path, "cuDeviceGetCount: no device");
}

struct Process {
  std::mutex mutex;
  // Guarded by the mutex.
  std::string path;
  std::unique_ptr<const Driver> driver;
  uint64_t fork_generation = 0;  // that loaded it
};

Process& process() {
  static auto& instance = *new Process;  // never destroyed: buffers may outlive main()
  return instance;
}

}  // namespace

bool is_sticky(Result result) {
  // CUDA_ERROR_ILLEGAL_ADDRESS and its like, ECC and NVLink errors: "leaves the
  // process in an inconsistent state and any further CUDA work will return the
  // same error" (Driver API, CUresult).
  constexpr std::array kSticky{
      kDeinitialized, 46, 214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719};
  return std::ranges::find(kSticky, result) != kSticky.end();
}

std::string Driver::describe(std::string_view call, Result result) const {
  const char* name = nullptr;
  const char* text = nullptr;
  if (cuGetErrorName.function(result, &name) != kSuccess || name == nullptr) name = "CUresult";
  std::string message =
      std::string(call) + ": " + std::string(name) + " (" + std::to_string(result) + ")";
  if (cuGetErrorString.function(result, &text) == kSuccess && text != nullptr) {
    message.append(": ").append(text);
  }
  return message;
}

Driver load_driver(const std::string& path) {
  Driver driver;
  driver.path = path.empty() ? kDefaultPath : path;
  void* const library = dlopen(driver.path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const reason = dlerror();
    throw unavailable(driver.path,
                      std::string("dlopen: ") + (reason == nullptr ? "failed" : reason));
  }
  try {
    find_all(library, &driver);
    start(&driver);
  } catch (...) {
    dlclose(library);
    throw;
  }
  return driver;  // the library stays
}

const Driver& driver() {
  Process& self = process();
  const std::lock_guard lock(self.mutex);
  if (self.driver == nullptr) {
    self.driver = std::make_unique<const Driver>(load_driver(self.path));
    self.fork_generation = fork_generation();
  }
  if (self.fork_generation != fork_generation()) {
    throw unavailable(self.driver->path,
                      "it was initialised before this process was forked, and does not work in "
                      "the child; fork first, or start processes by spawning");
  }
  return *self.driver;
}

}  // namespace cuda

void configure_cuda_driver(const std::string& path) {
  cuda::Process& self = cuda::process();
  const std::lock_guard lock(self.mutex);
  if (self.driver != nullptr && path != self.path) {
    throw Error(ErrorCode::kInvalidInput, "CUDA driver: expected '" + self.driver->path +
                                              "', which is already loaded, got '" + path + "'");
  }
  self.path = path;
}

}  // namespace pyruntime
