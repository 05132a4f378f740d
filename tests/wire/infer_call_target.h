// What a fuzzer feeds: gives bytes to a ModelInfer call, and lets it run.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "wire/echo_service.h"
#include "wire/protobuf_reader.h"
#include "wire/request_builder.h"
#include "wire/text.h"

namespace pyruntime::testing {

class InferCallTarget {
 public:
  InferCallTarget() {
    service_.add("f", {spec("x", DataType::kFloat32, {-1, 2})});
    service_.add("s", {spec("x", DataType::kString, {-1}), spec("y", DataType::kInt8, {-1, 2})});
    TensorSpec any = spec("x", DataType::kUint64, {});
    any.has_any_rank = true;
    service_.add("a", {any, spec("b", DataType::kBool, {-1})});
  }

  // A refusal must say why in UTF-8, and a response be a message. Returns
  // whether there was a response.
  bool run(std::string_view request) {
    std::string response;
    const Status status = service_.call(request, &response);
    if (!status.ok()) {
      require(!status.message().empty(), "a refusal without a word");
      require(is_utf8(status.message()), "a refusal that is not UTF-8");
      require(status.message().size() < 4096, "a refusal too long for a header");
      return false;
    }
    ProtobufReader reader(as_bytes(response));
    while (reader.next()) reader.skip();
    require(reader.ok(), "a response that is no message");
    return true;
  }

  // Requests that are served, to start from.
  static std::vector<std::string> seeds() {
    std::vector<std::string> all;
    all.push_back(RequestBuilder()
                      .model("f")
                      .id("id")
                      .version("1")
                      .parameter("timeout", number_field(5, 60'000'000))
                      .parameter("priority", number_field(2, 1))
                      .input("x", "FP32", {2, 2})
                      .output("output_0", parameter(2, "binary_data", number_field(1, 1)))
                      .raw(std::string(16, 'f'))
                      .bytes);
    all.push_back(RequestBuilder()
                      .model("f")
                      .input("x", "FP32", {1, 2}, bytes_field(5, bytes_field(6, "12345678")))
                      .bytes);
    all.push_back(RequestBuilder()
                      .model("s")
                      .input("x", "BYTES", {2})
                      .input("y", "INT8", {2, 2})
                      .raw(raw_strings({"a", std::string("b\0c", 3)}))
                      .raw("1234")
                      .bytes);
    all.push_back(
        RequestBuilder()
            .model("s")
            .input("x", "BYTES", {2}, bytes_field(5, bytes_field(8, "") + bytes_field(8, "b")))
            .input("y", "INT8", {2, 2}, bytes_field(5, packed_varints<int>(2, {-1, 2, -3, 4})))
            .bytes);
    all.push_back(
        RequestBuilder()
            .model("a")
            .input("x", "UINT64", {1, 1, 2}, bytes_field(5, packed_varints<int64_t>(5, {-1, 1})))
            .input("b", "BOOL", {2}, bytes_field(5, number_field(1, 1) + number_field(1, 0)))
            .bytes);
    return all;
  }

 private:
  static void require(bool holds, const char* otherwise) {
    if (holds) return;
    std::fprintf(stderr, "%s\n", otherwise);
    std::abort();
  }

  EchoService service_;
};

}  // namespace pyruntime::testing
