// NVIDIA GPUs, through the driver that is installed with them.
#pragma once

#include <string>

namespace pyruntime {

// Which library is the driver; empty: libcuda.so.1. Before the first use of a
// CUDA device; throws InvalidInput once another one is loaded. Threads: any.
void configure_cuda_driver(const std::string& path);

}  // namespace pyruntime
