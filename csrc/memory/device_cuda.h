// NVIDIA GPUs, through the driver that is installed with them.
#pragma once

#include <string>

#include "memory/device.h"

namespace pyruntime {

// Which library is the driver; empty: libcuda.so.1. Before the first use of a
// CUDA device; throws InvalidInput once another one is loaded. Threads: any.
void configure_cuda_driver(const std::string& path);

// On which GPU the memory lies that CUDA knows by this address, whoever has allocated it. Throws
// InvalidInput for memory that is no GPU's. Threads: any.
Device cuda_device_of(const void* address);

}  // namespace pyruntime
