// ONNX Runtime with fake providers of a GPU (onnxruntime_with_gpu.cc), for a
// test's whole process: it has one library.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): setenv() is POSIX's
#include <unistd.h>

#include "engine/onnx_library.h"

namespace pyruntime::test {

inline const std::filesystem::path& log_path() {
  static const std::filesystem::path path =
      std::filesystem::temp_directory_path() /
      ("pyruntime_providers_" + std::to_string(::getpid()) + ".log");
  return path;
}

inline bool has_library_with_gpu() {
  const char* const real = std::getenv("PYRUNTIME_ONNXRUNTIME");
  const char* const path = std::getenv("PYRUNTIME_ONNXRUNTIME_WITH_GPU");
  if (real == nullptr || *real == '\0' || path == nullptr) {
    MESSAGE("skipped: PYRUNTIME_ONNXRUNTIME and PYRUNTIME_ONNXRUNTIME_WITH_GPU name no libraries");
    return false;
  }
  if (!is_onnx_library_loaded()) {
    setenv("PYRUNTIME_REAL_ONNXRUNTIME", real, 1);
    setenv("PYRUNTIME_FAKE_LOG", log_path().c_str(), 1);
    configure_onnx_library({.path = path});
  }
  return true;
}

// What providers were appended, and what was run on device memory, since it was last asked; a line
// each.
inline std::vector<std::string> appended() {
  std::vector<std::string> lines;
  std::ifstream file(log_path());
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  file.close();
  std::filesystem::remove(log_path());
  return lines;
}

// For the time of a test, which runs alone.
struct Leaves {
  Leaves(const char* provider, const char* op_types)
      : name(std::string("PYRUNTIME_FAKE_LEAVES_") + provider) {
    setenv(name.c_str(), op_types, 1);
  }
  ~Leaves() { unsetenv(name.c_str()); }
  std::string name;
};

}  // namespace pyruntime::test
