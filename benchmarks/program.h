// What every benchmark in C++ begins with: its options, the engine's library,
// the repository's models.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "base/error.h"
#include "engine/onnx_library.h"

namespace pyruntime::bench {

// A program's `--name value`, each with a default.
class Arguments {
 public:
  // Throws InvalidInput for what is no pair of a name and a value.
  Arguments(int argc, char** argv) {
    for (int i = 1; i < argc; i += 2) {
      const std::string name = argv[i];
      if (!name.starts_with("--") || i + 1 == argc) {
        throw Error(ErrorCode::kInvalidInput, "expected --name value, got '" + name + "'");
      }
      values_[name.substr(2)] = argv[i + 1];
    }
  }

  std::string text(const std::string& name, const std::string& fallback) {
    asked_.insert(name);
    const auto found = values_.find(name);
    return found == values_.end() ? fallback : found->second;
  }

  // Throws InvalidInput unless it is one, of at least 0.
  double number(const std::string& name, double fallback) {
    const std::string given = text(name, "");
    if (given.empty()) return fallback;
    char* end = nullptr;
    const double value = std::strtod(given.c_str(), &end);
    if (*end != '\0' || !(value >= 0)) {
      throw Error(ErrorCode::kInvalidInput,
                  "--" + name + ": expected a number, got '" + given + "'");
    }
    return value;
  }
  int whole(const std::string& name, int fallback) {
    return static_cast<int>(number(name, fallback));
  }

  // Once all are asked for. Throws InvalidInput for one that is unknown.
  void check_all_used() const {
    for (const auto& [name, value] : values_) {
      if (!asked_.contains(name)) {
        throw Error(ErrorCode::kInvalidInput, "unknown option --" + name);
      }
    }
  }

 private:
  std::map<std::string, std::string> values_;
  std::set<std::string> asked_;
};

// Of tests/models, or a path to another model.
inline std::string model_path(const std::string& name) {
  if (name.ends_with(".onnx")) return name;
  return std::filesystem::path(__FILE__).parent_path() / "../tests/models" / (name + ".onnx");
}

// The name of a model for a table: "mlp_64_256_256_10".
inline std::string model_label(const std::string& path) {
  return std::filesystem::path(path).stem();
}

// A main(): calls `bench` with the options; prints `usage` for --help.
inline int run_program(int argc, char** argv, const char* usage, void (*bench)(Arguments&)) {
  if (argc == 2 && std::string(argv[1]) == "--help") {
    std::fputs(usage, stdout);
    return 0;
  }
  try {
    Arguments arguments(argc, argv);
    const char* const library = std::getenv("PYRUNTIME_ONNXRUNTIME");
    if (library == nullptr) {
      throw Error(ErrorCode::kUnavailable,
                  "set PYRUNTIME_ONNXRUNTIME to the path of libonnxruntime.so.*");
    }
    OnnxLibraryOptions options;
    options.path = library;
    configure_onnx_library(options);
    bench(arguments);
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.status().to_string().c_str());
    return error.code() == ErrorCode::kInvalidInput ? 2 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 1;
  }
}

}  // namespace pyruntime::bench
