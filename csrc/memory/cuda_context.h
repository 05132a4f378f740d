// One GPU's primary context, which ONNX Runtime, CuPy and PyTorch use as well:
// memory and streams of one are good for all.
//
// Threads: all calls from any. Every call of the driver goes through here: with
// the context current, and checked.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "memory/cuda_driver.h"
#include "memory/device.h"

namespace pyruntime {

// Lives as long as the process; the context is never released.
class CudaContext {
 public:
  // Throws Unavailable.
  CudaContext(const cuda::Driver& driver, int16_t index);

  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;

  // Of this thread, for as long as it lives: whoever called us finds the context
  // that it had. Costs one call of the driver where nothing changes.
  class Current {
   public:
    explicit Current(const CudaContext& context);
    ~Current();
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;

   private:
    const cuda::Driver& driver_;
    cuda::Context before_ = nullptr;
    bool is_changed_ = false;
  };

  template <typename... Parameters, typename... Arguments>
  cuda::Result call(const cuda::Call<Parameters...>& function, Arguments... arguments) const {
    if (is_in_child()) return cuda::kNotInitialized;
    const Current current(*this);
    return function.function(arguments...);
  }

  // The same, as a status that names device and call.
  template <typename... Parameters, typename... Arguments>
  Status check(const cuda::Call<Parameters...>& function, Arguments... arguments) const {
    const cuda::Result result = call(function, arguments...);
    if (result == cuda::kSuccess) return {};
    return failure(function.name, result);
  }

  // EngineError: "device 'cuda:0': cuMemAlloc_v2: CUDA_ERROR_UNKNOWN (999): ..."
  Status failure(std::string_view call, cuda::Result result) const;
  // To stderr, for destructors. Nothing where the driver is gone, at the end of a process; an error
  // that ended the context is told once.
  void log_failure(std::string_view call, cuda::Result result) const;

  // Whether this process was forked from the one that made it.
  bool is_in_child() const;

  const cuda::Driver& driver() const { return driver_; }
  Device device() const { return device_; }
  cuda::DeviceHandle handle() const { return handle_; }
  cuda::Context context() const { return context_; }

 private:
  const cuda::Driver& driver_;
  const Device device_;
  const uint64_t fork_generation_;
  cuda::DeviceHandle handle_ = 0;
  cuda::Context context_ = nullptr;
  mutable std::atomic<bool> is_end_told_{false};
};

}  // namespace pyruntime
