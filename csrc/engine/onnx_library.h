// ONNX Runtime as a library of this process: found, checked and loaded once.
//
// The library has one environment in a process, made by the first load and
// kept until the process ends; its global thread pool, if any, is made with
// it. So the pool must be asked for before or by the first session that is
// loaded: after that, asking for it is refused.
//
// A program that uses the same library file itself shares that environment,
// and whoever comes first decides about the pool. The `onnxruntime` Python
// module does not: it holds a second copy of the library with its own.
//
// Telemetry is switched off before the library loads, by ORT_DISABLE_TELEMETRY
// in the environment of the process, and again through the interface.
//
// Threads: all calls from any. The first load sets an environment variable, so
// no other thread may be in setenv() or getenv() of that moment.
#pragma once

#include <string>

namespace pyruntime {

struct OnnxLibraryOptions {
  // Of libonnxruntime.so.*; empty: the loader's search path (the Python layer
  // finds the wheel and passes its path; no variable is read here).
  std::string path{};
  // Makes the global pool at the first load, whether that asks for it or not.
  bool create_global_pool = false;
  // Of the global pool.
  int global_intra_op_threads = 0;  // 0: the engine's default
  int global_inter_op_threads = 1;  // used by sessions whose own inter_op_threads is not 1
  bool global_allow_spinning = false;

  friend bool operator==(const OnnxLibraryOptions&, const OnnxLibraryOptions&) = default;
};

// Before the first load. Throws InvalidInput once the library is loaded with
// other options.
void configure_onnx_library(const OnnxLibraryOptions& options);

// Loads the library if need be. Throws Unavailable, naming the path, the
// library's version and the version needed, when it cannot be used.
void load_onnx_library();

bool is_onnx_library_loaded();

// "1.32.0", empty until it is loaded.
std::string onnx_library_version();

}  // namespace pyruntime
