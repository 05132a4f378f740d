// For libFuzzer. With clang, from the repository:
//
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Icsrc -Itests
//     tests/fuzz/fuzz_infer_call.cc csrc/{base,memory,engine,schedule,serving,wire}/*.cc -ldl
//
// tests/wire/test_infer_call_mutations.cc is what every build runs instead.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "wire/infer_call_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  static pyruntime::testing::InferCallTarget target;
  target.run({reinterpret_cast<const char*>(data), size});
  return 0;
}
