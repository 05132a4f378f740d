#include "memory/cuda_context.h"

#include <cstdio>

#include "base/fork.h"

namespace pyruntime {

CudaContext::CudaContext(const cuda::Driver& driver, int16_t index)
    : driver_(driver), device_{DeviceKind::kCuda, index}, fork_generation_(fork_generation()) {
  const auto require = [&](const char* call, cuda::Result result) {
    if (result == cuda::kSuccess) return;
    throw Error(ErrorCode::kUnavailable, failure(call, result).message());
  };
  require("cuDeviceGet", driver.cuDeviceGet.function(&handle_, index));
  require("cuDevicePrimaryCtxRetain", driver.cuDevicePrimaryCtxRetain.function(&context_, handle_));
}

CudaContext::Current::Current(const CudaContext& context) : driver_(context.driver_) {
  // Failing to is shown by the call that this is for.
  (void)driver_.cuCtxGetCurrent.function(&before_);
  if (before_ == context.context_) return;
  is_changed_ = driver_.cuCtxSetCurrent.function(context.context_) == cuda::kSuccess;
}

CudaContext::Current::~Current() {
  if (is_changed_) (void)driver_.cuCtxSetCurrent.function(before_);
}

Status CudaContext::failure(std::string_view call, cuda::Result result) const {
  std::string text = "device '" + device_.name() + "': " + driver_.describe(call, result);
  if (is_in_child()) {
    text += "; the device was opened before this process was forked";
  } else if (cuda::is_sticky(result)) {
    text += "; nothing runs on this device any more before the process is started anew";
  }
  return {ErrorCode::kEngineError, std::move(text)};
}

void CudaContext::log_failure(std::string_view call, cuda::Result result) const {
  if (result == cuda::kSuccess || result == cuda::kDeinitialized || is_in_child()) return;
  if (cuda::is_sticky(result) && is_end_told_.exchange(true, std::memory_order_relaxed)) return;
  std::fprintf(stderr, "pyruntime: %s\n", failure(call, result).message().c_str());
}

bool CudaContext::is_in_child() const { return fork_generation_ != fork_generation(); }

}  // namespace pyruntime
