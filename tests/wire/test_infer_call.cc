#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "wire/echo_service.h"
#include "wire/infer_call.h"
#include "wire/infer_request.h"
#include "wire/request_builder.h"
#include "wire/request_options.h"

namespace pyruntime {
namespace {

using testing::as_bytes;
using testing::bytes_field;
using testing::EchoService;
using testing::number_field;
using testing::packed_varints;
using testing::parameter;
using testing::raw;
using testing::raw_strings;
using testing::RequestBuilder;
using testing::spec;

// An inference.ModelInferResponse, read by the reader that is tested elsewhere.
struct Response {
  struct Output {
    std::string name, datatype, contents;
    std::vector<int64_t> shape;
  };
  std::string model_name, model_version, id;
  std::vector<Output> outputs;
  std::vector<std::string> raw;

  explicit Response(const std::string& bytes) {
    ProtobufReader reader(as_bytes(bytes));
    while (reader.next()) {
      const uint32_t field = reader.field();
      const ByteSpan span = reader.bytes();
      const std::string value(reinterpret_cast<const char*>(span.data()), span.size());
      if (field == 1) model_name = value;
      if (field == 2) model_version = value;
      if (field == 3) id = value;
      if (field == 5) outputs.push_back(read_output(value));
      if (field == 6) raw.push_back(value);
    }
    CHECK(reader.ok());
  }

  static Output read_output(const std::string& bytes) {
    Output output;
    ProtobufReader reader(as_bytes(bytes));
    while (reader.next()) {
      const uint32_t field = reader.field();
      const ByteSpan span = reader.bytes();
      const std::string value(reinterpret_cast<const char*>(span.data()), span.size());
      if (field == 1) output.name = value;
      if (field == 2) output.datatype = value;
      if (field == 3) {
        ProtobufReader dims(span);
        while (!dims.at_end()) output.shape.push_back(static_cast<int64_t>(dims.varint()));
      }
      if (field == 5) output.contents = value;
    }
    CHECK(reader.ok());
    return output;
  }
};

struct TwoModels : EchoService {
  TwoModels() {
    add("one", {spec("x", DataType::kFloat32, {-1, 4})});
    add("two", {spec("ids", DataType::kInt64, {-1, 2}), spec("text", DataType::kString, {-1})}, 1);
    add("two", {spec("ids", DataType::kInt64, {-1, 2}), spec("text", DataType::kString, {-1})}, 3);
  }

  RequestBuilder good() const {
    RequestBuilder builder;
    builder.model("one").id("42").input("x", "FP32", {1, 4}).raw(raw<float>({1, 2, 3, 4}));
    return builder;
  }

  Response answer(const RequestBuilder& request) {
    std::string bytes;
    const Status status = call(request.bytes, &bytes);
    REQUIRE_MESSAGE(status.ok(), status.to_string());
    return Response(bytes);
  }

  // What is said of a bad request; the next good one is served.
  std::string refusal(const RequestBuilder& request,
                      ErrorCode expected = ErrorCode::kInvalidInput) {
    const Status status = call(request.bytes);
    CHECK_MESSAGE(status.code() == expected, status.to_string());
    CHECK(call(good().bytes).ok());
    return status.message();
  }
};

TEST_CASE_FIXTURE(TwoModels, "a raw request is answered raw, with its id and the version") {
  const Response response = answer(good());
  CHECK(response.model_name == "one");
  CHECK(response.model_version == "1");
  CHECK(response.id == "42");
  REQUIRE(response.outputs.size() == 1);
  CHECK(response.outputs[0].name == "output_0");
  CHECK(response.outputs[0].datatype == "FP32");
  CHECK(response.outputs[0].shape == std::vector<int64_t>{1, 4});
  CHECK(response.outputs[0].contents.empty());
  CHECK(response.raw == std::vector<std::string>{raw<float>({1, 2, 3, 4})});
}

TEST_CASE_FIXTURE(TwoModels, "a typed request is answered typed") {
  RequestBuilder request;
  const std::string contents = bytes_field(6, raw<float>({1, 2, 3, 4}));
  request.model("one").input("x", "FP32", {1, 4}, bytes_field(5, contents));
  const Response response = answer(request);
  CHECK(response.raw.empty());
  REQUIRE(response.outputs.size() == 1);
  CHECK(response.outputs[0].contents == contents);
}

TEST_CASE("typed contents of every type come back as they went in") {
  EchoService service;
  const auto integers = [](uint32_t field, std::vector<int64_t> values) {
    return packed_varints<int64_t>(field, values);
  };
  const std::vector<std::tuple<DataType, int64_t, std::string>> cases{
      {DataType::kBool, 3, integers(1, {1, 0, 1})},
      {DataType::kInt8, 3, integers(2, {-128, -1, 127})},
      {DataType::kInt16, 2, integers(2, {-32768, 32767})},
      {DataType::kInt32, 2, integers(2, {INT32_MIN, INT32_MAX})},
      {DataType::kInt64, 2, integers(3, {INT64_MIN, INT64_MAX})},
      {DataType::kUint8, 2, integers(4, {0, 255})},
      {DataType::kUint16, 2, integers(4, {0, 65535})},
      {DataType::kUint32, 2, integers(4, {0, 4294967295})},
      {DataType::kUint64, 2, integers(5, {0, -1})},
      {DataType::kFloat32, 2, bytes_field(6, raw<float>({-0.0F, 1e38F}))},
      {DataType::kFloat64, 2, bytes_field(7, raw<double>({-0.0, 1e300}))},
      {DataType::kString, 3,
       bytes_field(8, "") + bytes_field(8, std::string("a\0b", 3)) + bytes_field(8, "\xff")},
  };
  for (const auto& [type, count, contents] : cases) {
    const std::string name(data_type_name(type));
    CAPTURE(name);
    service.add(name, {spec("x", type, {-1})});
    RequestBuilder request;
    request.model(name).input("x", data_type_protocol_name(type), {count},
                              bytes_field(5, contents));
    std::string bytes;
    const Status status = service.call(request.bytes, &bytes);
    REQUIRE_MESSAGE(status.ok(), status.to_string());
    const Response response(bytes);
    CHECK(response.outputs[0].contents == contents);
    CHECK(response.outputs[0].shape == std::vector<int64_t>{count});
  }
}

TEST_CASE("a typed request for an output that is raw only is answered raw") {
  EchoService service;
  service.add("half", {spec("x", DataType::kFloat16, {-1}), spec("y", DataType::kInt32, {-1})});
  RequestBuilder request;
  request.model("half").input("x", "FP16", {1}).input("y", "INT32", {1});
  request.raw("12").raw("1234");
  std::string bytes;
  REQUIRE(service.call(request.bytes, &bytes).ok());
  CHECK(Response(bytes).raw == std::vector<std::string>{"12", "1234"});
}

TEST_CASE_FIXTURE(TwoModels, "strings keep their zero bytes; inputs come in any order") {
  const std::vector<std::string> texts{std::string("a\0b", 3), ""};
  RequestBuilder request;
  request.model("two").raw(raw_strings(texts)).raw(raw<int64_t>({1, 2, 3, 4}));
  request.input("text", "BYTES", {2}).input("ids", "INT64", {2, 2});
  const Response response = answer(request);
  CHECK(response.model_version == "3");
  CHECK(response.raw == std::vector<std::string>{raw<int64_t>({1, 2, 3, 4}), raw_strings(texts)});
}

TEST_CASE_FIXTURE(TwoModels, "only the outputs that are asked for are answered") {
  RequestBuilder request;
  request.model("two").version("1").output("output_1");
  request.input("text", "BYTES", {1}).input("ids", "INT64", {1, 2});
  request.raw(raw_strings({"a"})).raw(raw<int64_t>({1, 2}));
  const Response response = answer(request);
  CHECK(response.model_version == "1");
  REQUIRE(response.outputs.size() == 1);
  CHECK(response.outputs[0].name == "output_1");
  CHECK(response.raw == std::vector<std::string>{raw_strings({"a"})});
  CHECK(refusal(request.output("output_2")).find("output 'output_2'") == 0);
}

TEST_CASE_FIXTURE(TwoModels, "unknown models and versions are refused") {
  CHECK(refusal(RequestBuilder().model("none"), ErrorCode::kModelNotFound) ==
        "model 'none' is not loaded");
  CHECK(refusal(good().version("7"), ErrorCode::kModelNotFound).find("no version 7") !=
        std::string::npos);
  for (const char* version : {"abc", "0", "-1", "1.0", " 1", "99999999999999999999"}) {
    CHECK(refusal(good().version(version)).find("model_version: expected") == 0);
  }
}

TEST_CASE_FIXTURE(TwoModels, "missing, extra, duplicate and misnamed inputs are refused") {
  const std::string row = raw<float>({1, 2, 3, 4});
  CHECK(refusal(RequestBuilder().model("one")) == "input 'x' is missing: expected float32[*, 4]");
  CHECK(refusal(good().input("y", "FP32", {1, 4}).raw(row)) ==
        "input 'y' is unknown: expected 'x'");
  CHECK(refusal(good().input("x", "FP32", {1, 4}).raw(row)) == "input 'x' is given twice");
  CHECK(refusal(RequestBuilder().model("one").input("X", "FP32", {1, 4}).raw(row)) ==
        "input 'X' is unknown: expected 'x'");
}

TEST_CASE_FIXTURE(TwoModels, "wrong types, ranks, dimensions and sizes are refused") {
  const auto with = [&](std::string_view type, const std::vector<int64_t>& shape,
                        std::size_t size) {
    return refusal(
        RequestBuilder().model("one").input("x", type, shape).raw(std::string(size, '\0')));
  };
  CHECK(with("INT32", {1, 4}, 16) == "input 'x': expected float32[*, 4], got int32[1, 4]");
  CHECK(with("FP32", {4}, 16) == "input 'x': expected float32[*, 4], got float32[4]");
  CHECK(with("FP32", {1, 5}, 20) == "input 'x': expected float32[*, 4], got float32[1, 5]");
  CHECK(with("FP32", {1, 4}, 15) == "input 'x': expected 16 bytes for float32[1, 4], got 15");
  CHECK(with("FP32", {134217728, 4}, 4) ==
        "input 'x': expected 2147483648 bytes for float32[134217728, 4], got 4");
  with("FP32", {-1, 4}, 16);
  with("FP32", {INT64_MAX, 4}, 16);
  CHECK(refusal(RequestBuilder()
                    .model("two")
                    .input("ids", "INT64", {2, 2})
                    .input("text", "BYTES", {1})
                    .raw(raw<int64_t>({1, 2, 3, 4}))
                    .raw(raw_strings({"a"}))) ==
        "input 'text': expected 2 rows as in input 'ids', got 1");
}

TEST_CASE_FIXTURE(TwoModels, "raw contents are one for each input") {
  const std::string row = raw<float>({1, 2, 3, 4});
  CHECK(refusal(good().raw(row)) == "raw_input_contents: expected 1, one for each input, got 2");
  CHECK(refusal(RequestBuilder()
                    .model("two")
                    .input("ids", "INT64", {1, 2})
                    .input("text", "BYTES", {1})
                    .raw(raw<int64_t>({1, 2}))) ==
        "raw_input_contents: expected 2, one for each input, got 1");
  const std::string contents = bytes_field(5, bytes_field(6, row));
  CHECK(refusal(RequestBuilder().model("one").input("x", "FP32", {1, 4}, contents).raw(row)) ==
        "input 'x': expected raw_input_contents or typed contents, got both");
}

TEST_CASE_FIXTURE(TwoModels, "a batch without rows is served") {
  RequestBuilder request;
  request.model("one").input("x", "FP32", {0, 4}).raw("");
  const Response response = answer(request);
  CHECK(response.outputs[0].shape == std::vector<int64_t>{0, 4});
  CHECK(response.raw == std::vector<std::string>{""});
}

TEST_CASE_FIXTURE(TwoModels, "priority and timeout are understood") {
  for (const uint64_t level : {0, 1, 2, 3, 100}) {
    answer(good().parameter("priority", number_field(5, level)));
  }
  answer(good().parameter("priority", number_field(2, 1)));
  answer(good().parameter("timeout", number_field(2, 0)));
  answer(good().parameter("timeout", number_field(5, 60'000'000)));
  answer(good().parameter("timeout", number_field(5, UINT64_MAX)));
  CHECK(refusal(good().parameter("timeout", number_field(2, ~uint64_t{0}))) ==
        "parameter 'timeout': expected an integer that is not negative, got -1");
  refusal(good().parameter("priority", bytes_field(3, "high")));
}

TEST_CASE("a priority of 0, or none, leaves it to the model") {
  const auto read = [](const std::string& bytes) {
    InferRequestView view;
    REQUIRE(view.parse(as_bytes(bytes)).ok());
    RequestParameters parameters;
    REQUIRE(read_parameters(view, &parameters).ok());
    return parameters.priority;
  };
  const auto of_level = [&](uint64_t level) {
    return read(RequestBuilder().parameter("priority", number_field(5, level)).bytes);
  };
  CHECK(!read({}));
  CHECK(!of_level(0));
  CHECK(of_level(1) == Priority::kHigh);
  CHECK(of_level(2) == Priority::kNormal);
  CHECK(of_level(3) == Priority::kLow);
  CHECK(of_level(100) == Priority::kLow);
}

TEST_CASE_FIXTURE(TwoModels, "parameters that are not implemented are refused by name") {
  const auto code = ErrorCode::kUnimplemented;
  CHECK(refusal(good().parameter("sequence_id", number_field(2, 9)), code) ==
        "parameter 'sequence_id' is not implemented");
  refusal(good().parameter("sequence_id", bytes_field(3, "abc")), code);
  refusal(good().parameter("sequence_start", number_field(1, 1)), code);
  refusal(good().parameter("sequence_end", number_field(1, 1)), code);
  answer(good().parameter("sequence_id", number_field(2, 0)));
  answer(good().parameter("something_else", bytes_field(3, "abc")));
  CHECK(refusal(RequestBuilder().model("one").input(
                    "x", "FP32", {1, 4},
                    parameter(4, "shared_memory_region", bytes_field(3, "region")) +
                        parameter(4, "shared_memory_byte_size", number_field(2, 16))),
                code) == "input 'x': parameter 'shared_memory_region' is not implemented");
  CHECK(refusal(good().output("output_0", parameter(2, "classification", number_field(2, 3))),
                code) == "output 'output_0': parameter 'classification' is not implemented");
  answer(good().output("output_0", parameter(2, "binary_data", number_field(1, 1))));
}

TEST_CASE_FIXTURE(TwoModels, "every truncation is refused or served, and nothing else happens") {
  RequestBuilder builder = good();
  builder.parameter("timeout", number_field(5, 60'000'000)).output("output_0");
  for (std::size_t size = 0; size < builder.bytes.size(); ++size) {
    const Status status = call(builder.bytes.substr(0, size));
    CHECK((status.ok() || status.code() == ErrorCode::kInvalidInput ||
           status.code() == ErrorCode::kModelNotFound));
  }
  CHECK(call(good().bytes).ok());
}

TEST_CASE_FIXTURE(TwoModels, "a hundred thousand empty inputs cost no more than one") {
  RequestBuilder builder = good();
  for (int i = 0; i < 100'000; ++i) builder.add("\x2a" + std::string(1, '\0'));
  refusal(builder);
}

struct Completion {
  std::atomic<int> calls{0};
  static void count(void* self) noexcept { ++static_cast<Completion*>(self)->calls; }
  void wait() const {
    while (calls.load() == 0) std::this_thread::yield();
  }
};

TEST_CASE_FIXTURE(TwoModels, "a submitted call completes once, with its response ready") {
  const std::string bytes = good().bytes;
  Completion completion;
  InferCall one(registry);
  REQUIRE(one.decode(as_bytes(bytes)).ok());
  CHECK(one.id() == "42");
  CHECK(one.model_name() == "one");
  REQUIRE(one.submit(Completion::count, &completion).ok());
  completion.wait();
  REQUIRE(one.status().ok());
  std::vector<std::byte> response(one.response_size());
  one.encode(response.data());
  CHECK(Response(std::string(reinterpret_cast<const char*>(response.data()), response.size())).id ==
        "42");
  CHECK(completion.calls == 1);
}

TEST_CASE_FIXTURE(TwoModels, "a completion may destroy its call") {
  struct Owner {
    std::unique_ptr<InferCall> call;
    std::atomic<bool> is_done{false};
  };
  const std::string bytes = good().bytes;
  for (int i = 0; i < 1000; ++i) {
    Owner owner;
    owner.call = std::make_unique<InferCall>(registry);
    REQUIRE(owner.call->decode(as_bytes(bytes)).ok());
    InferCall* const call = owner.call.get();
    REQUIRE(call->submit(
                    [](void* self) noexcept {
                      auto* own = static_cast<Owner*>(self);
                      own->call.reset();
                      own->is_done.store(true);
                    },
                    &owner)
                .ok());
    while (!owner.is_done.load()) std::this_thread::yield();
  }
}

TEST_CASE_FIXTURE(TwoModels, "a call destroyed under way has completed first") {
  const std::string bytes = good().bytes;
  for (int i = 0; i < 1000; ++i) {
    Completion completion;
    {
      InferCall one(registry);
      REQUIRE(one.decode(as_bytes(bytes)).ok());
      REQUIRE(one.submit(Completion::count, &completion).ok());
    }
    CHECK(completion.calls == 1);
  }
}

TEST_CASE_FIXTURE(TwoModels, "a call cancelled before it runs is cancelled") {
  const std::string bytes = good().bytes;
  InferCall one(registry);
  REQUIRE(one.decode(as_bytes(bytes)).ok());
  one.cancel();
  CHECK(one.infer().code() == ErrorCode::kCancelled);
  Completion completion;
  InferCall two(registry);
  REQUIRE(two.decode(as_bytes(bytes)).ok());
  two.cancel();
  CHECK(two.submit(Completion::count, &completion).code() == ErrorCode::kCancelled);
  CHECK(completion.calls == 0);
}

TEST_CASE("calls behind a slow one are cancelled and expire, and say so") {
  EchoService service;
  ModelOptions options;
  options.session.config = {{"echo.delay_us", "50000"}};
  options.batching.max_rows = 1;
  service.add("slow", {spec("x", DataType::kFloat32, {-1, 1})}, 1, options);
  RequestBuilder builder;
  builder.model("slow").input("x", "FP32", {1, 1}).raw("1234");
  const std::string bytes = builder.bytes;
  const std::string hasty = builder.parameter("timeout", number_field(5, 1000)).bytes;

  InferCall known(service.registry);  // from now on the model knows what a run costs
  REQUIRE(known.decode(as_bytes(bytes)).ok());
  REQUIRE(known.infer().ok());
  std::vector<std::unique_ptr<InferCall>> running;
  Completion first;
  for (int i = 0; i < 4; ++i) {
    running.push_back(std::make_unique<InferCall>(service.registry));
    REQUIRE(running.back()->decode(as_bytes(bytes)).ok());
    REQUIRE(running.back()->submit(Completion::count, &first).ok());
  }
  Completion cancelled;
  InferCall one(service.registry);
  REQUIRE(one.decode(as_bytes(bytes)).ok());
  REQUIRE(one.submit(Completion::count, &cancelled).ok());
  std::thread([&] { one.cancel(); }).join();
  CHECK(cancelled.calls == 1);
  CHECK(one.status().code() == ErrorCode::kCancelled);

  InferCall two(service.registry);
  REQUIRE(two.decode(as_bytes(hasty)).ok());
  CHECK(two.infer().code() == ErrorCode::kDeadlineExceeded);

  InferCall three(service.registry);
  REQUIRE(three.decode(as_bytes(bytes)).ok());
  three.set_deadline(SteadyClock::instance().now() + std::chrono::milliseconds(1));
  CHECK(three.infer().code() == ErrorCode::kDeadlineExceeded);
}

TEST_CASE_FIXTURE(TwoModels, "a call without a good decode does not run") {
  InferCall one(registry);
  CHECK(one.infer().code() == ErrorCode::kInvalidInput);
  InferCall two(registry);
  REQUIRE_FALSE(two.decode(as_bytes("\xff")).ok());
  CHECK(two.infer().code() == ErrorCode::kInvalidInput);
  const std::string bytes = good().bytes;
  InferCall three(registry);
  REQUIRE(three.decode(as_bytes(bytes)).ok());
  CHECK(three.infer().ok());
  CHECK(three.infer().code() == ErrorCode::kInvalidInput);
}

TEST_CASE("calls of the latest version are answered while versions are swapped") {
  EchoService service;
  service.add("m", {spec("x", DataType::kInt32, {-1})});
  const std::string bytes =
      RequestBuilder().model("m").input("x", "INT32", {1}).raw(raw<int32_t>({7})).bytes;
  std::atomic<bool> is_over{false};
  std::atomic<int> failed{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 2; ++i) {
    callers.emplace_back([&] {
      while (!is_over.load(std::memory_order_relaxed)) {
        if (!service.call(bytes).ok()) ++failed;
      }
    });
  }
  for (int64_t version = 2; version < 100; ++version) {
    service.add("m", {spec("x", DataType::kInt32, {-1})}, version);
    service.registry.remove("m", version - 1)->close();
  }
  is_over = true;
  for (std::thread& caller : callers) caller.join();
  CHECK(failed == 0);
}

TEST_CASE("an engine's failure travels as its status") {
  EchoService service;
  ModelOptions options;
  options.session.config = {{"echo.fail_value", "13"}};
  service.add("picky", {spec("x", DataType::kInt32, {-1})}, 1, options);
  const auto request = [](int32_t value) {
    return RequestBuilder()
        .model("picky")
        .input("x", "INT32", {1})
        .raw(raw<int32_t>({value}))
        .bytes;
  };
  CHECK(service.call(request(13)).code() == ErrorCode::kEngineError);
  CHECK(service.call(request(12)).ok());
}

}  // namespace
}  // namespace pyruntime
