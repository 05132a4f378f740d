// The library's one environment; onnx_library.h says how it lives.
//
// Threads: all calls from any.
#pragma once

#include <string>
#include <vector>

#include "engine/onnx_api.h"

namespace pyruntime::ort {

// Loads the library and makes the environment if need be. Throws Unavailable
// as load_onnx_library(), or InvalidInput when the global pool is asked for
// and the environment was made without.
OrtEnv* environment(bool needs_global_pool);

// Of CPU memory. Lives as long as the process.
const OrtMemoryInfo* cpu_memory();

// The library's own; for strings. Lives as long as the process.
OrtAllocator* default_allocator();

// Full names of the providers that the library was built with.
std::vector<std::string> available_providers();

}  // namespace pyruntime::ort
