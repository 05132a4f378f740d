// Serves a model inside a C++ program: loads it, runs one row of zeros, prints what came out.
//
//   include=$(python -P -c 'import pyruntime; print(pyruntime.get_include())')
//   library=$(python -P -c 'import pyruntime; print(pyruntime.get_library())')
//   flags="-std=c++20 -O2 -I$include -Wl,-rpath,${library%/*}"
//   g++ $flags examples/embed.cc "$library" -o embed
//
// Then: ./embed LIBONNXRUNTIME MODEL, where LIBONNXRUNTIME is libonnxruntime.so.* of the wheel.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "engine/onnx_library.h"
#include "serving/model.h"

int main(int argc, char** argv) try {
  if (argc != 3) return std::fputs("usage: embed LIBONNXRUNTIME MODEL\n", stderr), 2;
  pyruntime::configure_onnx_library({.path = argv[1]});
  auto model = pyruntime::ModelVersion::load("embedded", 1, {.path = argv[2]}, {});

  auto request = model->new_request();
  std::vector<std::vector<std::byte>> memory;  // must stay until the request is done
  for (const auto& spec : model->signature().inputs) {
    pyruntime::Tensor input;
    input.type = spec.type;
    input.shape = pyruntime::Shape(spec.dims);
    for (auto i = 0U; i < spec.dims.size(); ++i)
      input.shape[i] = std::max<int64_t>(spec.dims[i], 1);
    input.data = memory.emplace_back(input.size_bytes()).data();
    model->set_input(*request, spec.name, input).throw_if_failed();
  }
  model->infer(request).throw_if_failed();
  for (const auto& output : request->outputs) std::puts(pyruntime::describe(output).c_str());
  std::printf("in the engine: %.1f us\n", static_cast<double>(request->timing.run_ns) / 1e3);
} catch (const pyruntime::Error& error) {
  std::fprintf(stderr, "embed: %s\n", error.status().to_string().c_str());
  return 1;
}
