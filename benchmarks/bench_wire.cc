// The codec of ModelInfer alone: a request of one [1, 64] float32 row and its
// response, without a model's run. One JSON line; ns of each step, the median
// and the 99th percentile of batches of calls.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "serving/registry.h"
#include "wire/infer_call.h"
#include "wire/protobuf_writer.h"

namespace {

using namespace pyruntime;

constexpr int kBatches = 2000;
constexpr int kCallsPerBatch = 50;

std::string field(uint32_t number, std::string_view value) {
  std::string bytes(bytes_field_size(number, value.size()), '\0');
  ProtobufWriter(reinterpret_cast<std::byte*>(bytes.data())).bytes_field(number, value);
  return bytes;
}

// As tritonclient writes it, with its payload aligned or not.
std::vector<char> request_bytes(bool is_aligned, std::span<const std::byte>* request) {
  const std::string raw(256, '\0');
  const std::string bytes = field(1, "m") + field(3, "1") +
                            field(5, field(1, "x") + field(2, "FP32") + field(3, "\x01\x40")) +
                            field(7, raw);
  std::vector<char> memory(bytes.size() + 16);
  std::size_t offset = 0;
  const auto payload = [&] {
    return reinterpret_cast<uintptr_t>(memory.data()) + offset + bytes.size() - raw.size();
  };
  while ((payload() % 4 == 0) != is_aligned) ++offset;
  std::copy(bytes.begin(), bytes.end(), memory.begin() + static_cast<std::ptrdiff_t>(offset));
  *request = std::as_bytes(std::span(memory.data() + offset, bytes.size()));
  return memory;
}

struct Steps {
  std::vector<double> decode, infer, encode, all;
};

double ns_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
}

// A clock read costs some 20 ns, so steps are timed over batches of calls.
Steps measure(const Registry& registry, std::span<const std::byte> request) {
  Steps steps;
  std::vector<std::unique_ptr<InferCall>> calls(kCallsPerBatch);
  std::vector<std::byte> response(4096);
  for (int batch = 0; batch < kBatches; ++batch) {
    for (auto& call : calls) call = std::make_unique<InferCall>(registry);
    auto start = std::chrono::steady_clock::now();
    for (auto& call : calls) {
      if (!call->decode(request).ok()) std::abort();
    }
    steps.decode.push_back(ns_since(start) / kCallsPerBatch);
    start = std::chrono::steady_clock::now();
    for (auto& call : calls) {
      if (!call->infer().ok()) std::abort();
    }
    steps.infer.push_back(ns_since(start) / kCallsPerBatch);
    start = std::chrono::steady_clock::now();
    for (auto& call : calls) {
      if (call->response_size() > response.size()) std::abort();
      call->encode(response.data());
    }
    steps.encode.push_back(ns_since(start) / kCallsPerBatch);
    start = std::chrono::steady_clock::now();
    for (int i = 0; i < kCallsPerBatch; ++i) {
      InferCall call(registry);
      if (!call.decode(request).ok() || !call.infer().ok()) std::abort();
      call.encode(response.data());
    }
    steps.all.push_back(ns_since(start) / kCallsPerBatch);
  }
  return steps;
}

void print(const char* name, std::vector<double>& ns, const char* end) {
  std::sort(ns.begin(), ns.end());
  std::printf("\"%s\": {\"median\": %.0f, \"p99\": %.0f}%s", name, ns[ns.size() / 2],
              ns[ns.size() * 99 / 100], end);
}

}  // namespace

int main() {
  ModelOptions options;
  options.session.engine = "echo";
  TensorSpec spec;
  spec.name = "x";
  spec.dims = {-1, 64};
  spec.symbols.resize(2);
  options.session.echo_inputs = {spec};
  Registry registry;
  registry.add(ModelVersion::load("m", 1, {}, options));

  std::printf("{\"benchmark\": \"wire\", \"request\": \"float32[1, 64]\", \"unit\": \"ns\"");
  for (const bool is_aligned : {true, false}) {
    std::span<const std::byte> request;
    const std::vector<char> memory = request_bytes(is_aligned, &request);
    Steps steps = measure(registry, request);
    std::printf(", \"%s\": {", is_aligned ? "aligned" : "misaligned");
    print("decode", steps.decode, ", ");
    print("infer", steps.infer, ", ");
    print("encode", steps.encode, ", ");
    print("call", steps.all, "}");
  }
  std::printf("}\n");
  return 0;
}
