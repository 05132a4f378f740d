// What tests of ONNX models on a GPU need here: the fake driver, and ONNX Runtime with fake
// providers.
#pragma once

#include <doctest/doctest.h>

#include "engine/onnx_with_gpu.h"
#include "memory/device.h"
#include "memory/fake_driver.h"

namespace pyruntime::test {

inline constexpr Device kGpu{DeviceKind::kCuda, 0};

// Says why not.
inline bool has_fake_gpu() {
  if (fake_driver() == nullptr) {
    MESSAGE("skipped: CUDA, whose driver is not the fake one");
    return false;
  }
  return has_library_with_gpu();
}

}  // namespace pyruntime::test
