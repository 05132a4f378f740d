// The fake CUDA driver's own interface, where that is the driver.
#pragma once

#include <dlfcn.h>

#include "fake_cuda/control.h"
#include "memory/cuda_driver.h"
#include "memory/device.h"

namespace pyruntime::test {

// nullptr where the driver is a real one, or absent.
inline const fake_cuda::Control* fake_driver() {
  const auto find = []() -> const fake_cuda::Control* {
    for (const BackendEntry& entry : device_backends()) {
      if (entry.kind != DeviceKind::kCuda || entry.device_count() == 0) continue;
      void* const library = dlopen(cuda::driver().path.c_str(), RTLD_NOW | RTLD_NOLOAD);
      const auto get =
          reinterpret_cast<decltype(&fake_cuda_control)>(dlsym(library, "fake_cuda_control"));
      return get == nullptr ? nullptr : get();
    }
    return nullptr;
  };
  static const fake_cuda::Control* const found = find();
  return found;
}

}  // namespace pyruntime::test
