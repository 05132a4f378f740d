#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "wire/infer_request.h"
#include "wire/request_builder.h"
#include "wire/scratch.h"
#include "wire/tensor_contents.h"
#include "wire/typed_contents.h"

namespace pyruntime {
namespace {

using testing::as_bytes;
using testing::bytes_field;
using testing::input_message;
using testing::number_field;
using testing::packed_varints;
using testing::raw;
using testing::raw_strings;
using testing::RequestBuilder;
using testing::varint;

// An input unpacked, with all that it points to.
struct Unpacked {
  std::string message;
  std::string contents;  // raw ones
  Scratch scratch;
  Tensor tensor;
  Status status;

  template <typename T>
  std::vector<T> values() const {
    const T* first = tensor.data_as<T>();
    return {first, first + tensor.size_bytes() / sizeof(T)};
  }
  std::vector<std::string> strings() const {
    std::vector<std::string> all;
    for (const StringRef& string : values<StringRef>()) all.emplace_back(string.view());
    return all;
  }
};

Unpacked from_raw(std::string_view datatype, const std::vector<int64_t>& shape,
                  const std::string& contents, std::string_view more = {}) {
  Unpacked result;
  result.message = input_message("x", datatype, shape, more);
  result.contents = contents;
  InferInputView view;
  result.status = view.parse(as_bytes(result.message), 0);
  if (result.status.ok()) {
    result.status =
        tensor_from_raw(view, as_bytes(result.contents), result.scratch, &result.tensor);
  }
  return result;
}

// contents: of InferTensorContents.
Unpacked from_typed(std::string_view datatype, const std::vector<int64_t>& shape,
                    const std::string& contents, std::string_view more = {}) {
  Unpacked result;
  result.message =
      input_message("x", datatype, shape, bytes_field(5, contents) + std::string(more));
  InferInputView view;
  result.status = view.parse(as_bytes(result.message), 0);
  if (result.status.ok()) {
    result.status = tensor_from_typed(view, result.scratch, &result.tensor);
  }
  return result;
}

TEST_CASE("a request's own fields are read, the last of each counts") {
  RequestBuilder builder;
  builder.model("first").version("1").id("a").model("second").version("2").id("b");
  builder.input("x", "FP32", {1}).raw("1234").input("y", "FP32", {1}).raw("5678");
  InferRequestView view;
  REQUIRE(view.parse(as_bytes(builder.bytes)).ok());
  CHECK(view.model_name == "second");
  CHECK(view.model_version == "2");
  CHECK(view.id == "b");
  CHECK(view.input_count == 2);
  CHECK(view.raw_count == 2);
  Occurrences raws(view.message, RequestField::kRawInputContents);
  ByteSpan contents;
  REQUIRE(raws.next(&contents));
  CHECK(contents.size() == 4);
  CHECK(contents[0] == std::byte{'1'});
  REQUIRE(raws.next(&contents));
  CHECK(contents[0] == std::byte{'5'});
  CHECK_FALSE(raws.next(&contents));
}

TEST_CASE("a request with text that is not UTF-8 is refused") {
  for (const uint32_t field : {1, 2, 3}) {
    const std::string bytes = bytes_field(field, "\xff\xfe");
    InferRequestView view;
    const Status status = view.parse(as_bytes(bytes));
    CHECK(status.code() == ErrorCode::kInvalidInput);
    CHECK(status.message() ==
          "ModelInferRequest: malformed protobuf: text that is not UTF-8 near byte 4");
  }
}

TEST_CASE("names that no header could carry are refused") {
  const std::string bytes = bytes_field(1, std::string(1 << 20, 'm'));
  InferRequestView view;
  CHECK(view.parse(as_bytes(bytes)).message() ==
        "model_name: expected a name of at most 1024 bytes, got 1048576");
}

TEST_CASE("a shape is read packed and unpacked") {
  const std::string message = bytes_field(1, "x") + number_field(3, 4) +
                              packed_varints<int64_t>(3, {5, -1}) + number_field(3, 6);
  InferInputView view;
  REQUIRE(view.parse(as_bytes(message), 0).ok());
  CHECK(view.rank == 4);
  CHECK(view.dims[0] == 4);
  CHECK(view.dims[1] == 5);
  CHECK(view.dims[2] == -1);
  CHECK(view.dims[3] == 6);
}

TEST_CASE("parameters of every type are read") {
  const auto parse = [](const std::string& value) {
    const std::string entry = bytes_field(1, "name") + bytes_field(2, value);
    InferParameterView parameter;
    REQUIRE(parameter.parse(as_bytes(entry)).ok());
    return parameter;
  };
  using Kind = InferParameterView::Kind;
  uint64_t value = 0;
  CHECK(parse(number_field(1, 1)).kind == Kind::kBool);
  CHECK(parse(number_field(1, 0)).is_set() == false);
  CHECK(parse(number_field(2, 7)).is_unsigned(&value));
  CHECK(value == 7);
  CHECK_FALSE(parse(number_field(2, ~uint64_t{0})).is_unsigned(&value));
  CHECK(parse(number_field(5, ~uint64_t{0})).is_unsigned(&value));
  CHECK(parse(std::string("\x21\x00\x00\x00\x00\x00\x00\xf0\x3f", 9)).real == 1.0);
  CHECK(parse(number_field(2, 7) + number_field(1, 1)).kind == Kind::kBool);
  CHECK(parse("").kind == Kind::kNone);
}

TEST_CASE("raw numbers are used where they lie if they are aligned") {
  const auto good = from_raw("INT64", {2, 2}, raw<int64_t>({1, -2, 3, INT64_MIN}));
  REQUIRE(good.status.ok());
  CHECK(good.tensor.type == DataType::kInt64);
  CHECK(good.tensor.shape == Shape{2, 2});
  CHECK(good.values<int64_t>() == std::vector<int64_t>{1, -2, 3, INT64_MIN});

  InferInputView view;
  const std::string message = input_message("x", "FP32", {2});
  REQUIRE(view.parse(as_bytes(message), 0).ok());
  Scratch scratch;
  Tensor tensor;
  alignas(8) std::byte bytes[16] = {};
  const uint64_t before = misaligned_input_count();
  REQUIRE(tensor_from_raw(view, ByteSpan(bytes + 4, 8), scratch, &tensor).ok());
  CHECK(tensor.data == bytes + 4);
  CHECK(misaligned_input_count() == before);
  REQUIRE(tensor_from_raw(view, ByteSpan(bytes + 5, 8), scratch, &tensor).ok());
  CHECK(tensor.data != bytes + 5);
  CHECK(reinterpret_cast<uintptr_t>(tensor.data) % 64 == 0);
  CHECK(misaligned_input_count() == before + 1);
}

TEST_CASE("raw contents of every type need as many bytes as their shape") {
  for (const auto& [name, size] : {std::pair("BOOL", 1),
                                   {"UINT8", 1},
                                   {"UINT16", 2},
                                   {"UINT32", 4},
                                   {"UINT64", 8},
                                   {"INT8", 1},
                                   {"INT16", 2},
                                   {"INT32", 4},
                                   {"INT64", 8},
                                   {"FP16", 2},
                                   {"BF16", 2},
                                   {"FP32", 4},
                                   {"FP64", 8}}) {
    const std::size_t bytes = 3 * static_cast<std::size_t>(size);
    CHECK(from_raw(name, {3, 1}, std::string(bytes, '\0')).status.ok());
    CHECK(from_raw(name, {0, 3}, "").status.ok());
    CHECK(from_raw(name, {0, 3}, "").tensor.data != nullptr);
    CHECK_FALSE(from_raw(name, {3, 1}, std::string(bytes - 1, '\0')).status.ok());
    CHECK_FALSE(from_raw(name, {3, 1}, std::string(bytes + 1, '\0')).status.ok());
    CHECK_FALSE(from_raw(name, {3, 1}, "").status.ok());
  }
  CHECK(from_raw("INT64", {4, 16}, "12345678").status.message() ==
        "input 'x': expected 512 bytes for int64[4, 16], got 8");
  CHECK(from_raw("FP32", {}, "1234").status.ok());
}

TEST_CASE("a shape of 2 GB with 4 bytes costs nothing") {
  const auto result = from_raw("FP32", {536870912}, "1234");
  CHECK(result.status.message() ==
        "input 'x': expected 2147483648 bytes for float32[536870912], got 4");
  CHECK(result.tensor.data == nullptr);
  CHECK(from_typed("INT8", {int64_t{1} << 40}, packed_varints<int>(2, {1})).tensor.data == nullptr);
  CHECK(from_raw("BYTES", {int64_t{1} << 40}, raw_strings({"a"})).tensor.data == nullptr);
}

TEST_CASE("impossible shapes are refused") {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{-1},
                                            {2, -3},
                                            {INT64_MIN},
                                            {INT64_MAX, 2},
                                            {1L << 32, 1L << 32},
                                            {0, INT64_MAX, 3}}) {
    for (const char* type : {"FP32", "BYTES", "BOOL"}) {
      CHECK(from_raw(type, shape, "").status.code() == ErrorCode::kInvalidInput);
      CHECK(from_typed(type, shape, "").status.code() == ErrorCode::kInvalidInput);
    }
  }
  CHECK(from_raw("FP64", {INT64_MAX}, "").status.code() == ErrorCode::kInvalidInput);
  CHECK(from_raw("FP32", std::vector<int64_t>(17, 1), "1234").status.message() ==
        "input 'x': expected at most 16 dimensions, got 17");
  CHECK(from_raw("FP32", std::vector<int64_t>(16, 1), "1234").status.ok());
}

TEST_CASE("an unknown datatype is refused") {
  CHECK(from_raw("FP31", {1}, "1234").status.message().find("got 'FP31'") != std::string::npos);
  CHECK(from_raw("", {1}, "1234").status.code() == ErrorCode::kInvalidInput);
  CHECK(from_raw("fp32", {1}, "1234").status.code() == ErrorCode::kInvalidInput);
}

TEST_CASE("any raw byte but zero is true") {
  const auto result = from_raw("BOOL", {5}, std::string("\x00\x01\x02\xff\x00", 5));
  REQUIRE(result.status.ok());
  CHECK(result.values<uint8_t>() == std::vector<uint8_t>{0, 1, 1, 1, 0});
}

TEST_CASE("raw strings keep every byte") {
  const std::vector<std::string> texts{"", std::string("a\0b", 3), "\xff\xfe",
                                       std::string(300, 'z')};
  const auto result = from_raw("BYTES", {2, 2}, raw_strings(texts));
  REQUIRE(result.status.ok());
  CHECK(result.strings() == texts);
  CHECK(from_raw("BYTES", {0}, "").status.ok());
  CHECK(from_raw("BYTES", {}, raw_strings({"scalar"})).strings() ==
        std::vector<std::string>{"scalar"});
}

TEST_CASE("raw strings that do not fit are refused") {
  const std::string two = raw_strings({"ab", "cd"});
  CHECK(from_raw("BYTES", {3}, two).status.message() ==
        "input 'x': expected 3 elements for string[3], got 2");
  CHECK(from_raw("BYTES", {1}, two).status.message() ==
        "input 'x': expected 1 elements for string[1], got 2");
  for (std::size_t size = 1; size < two.size(); ++size) {
    if (size == 6) continue;
    CHECK(from_raw("BYTES", {2}, two.substr(0, size)).status.code() == ErrorCode::kInvalidInput);
  }
  CHECK(from_raw("BYTES", {1}, "\xff\xff\xff\xff").status.message().find("element 0") !=
        std::string::npos);
}

TEST_CASE("raw and typed contents together are refused") {
  const std::string contents = bytes_field(5, packed_varints<int>(2, {1}));
  CHECK(from_raw("INT32", {1}, "1234", contents).status.message() ==
        "input 'x': expected raw_input_contents or typed contents, got both");
  CHECK(from_raw("INT32", {1}, "1234", bytes_field(5, "")).status.ok());
}

TEST_CASE("typed integers are unpacked, in their range only") {
  CHECK(from_typed("INT8", {3}, packed_varints<int>(2, {-128, 0, 127})).values<int8_t>() ==
        std::vector<int8_t>{-128, 0, 127});
  CHECK(from_typed("INT8", {2}, packed_varints<int>(2, {0, 128})).status.message() ==
        "input 'x': expected int8 in element 1, got 128");
  CHECK_FALSE(from_typed("INT8", {1}, packed_varints<int>(2, {-129})).status.ok());
  CHECK_FALSE(from_typed("INT16", {1}, packed_varints<int>(2, {32768})).status.ok());
  CHECK(from_typed("INT16", {1}, packed_varints<int>(2, {-32768})).values<int16_t>()[0] == -32768);
  CHECK(
      from_typed("INT32", {2}, packed_varints<int>(2, {INT32_MIN, INT32_MAX})).values<int32_t>() ==
      std::vector<int32_t>{INT32_MIN, INT32_MAX});
  CHECK(from_typed("INT64", {2}, packed_varints<int64_t>(3, {INT64_MIN, INT64_MAX}))
            .values<int64_t>() == std::vector<int64_t>{INT64_MIN, INT64_MAX});
  CHECK_FALSE(from_typed("UINT8", {1}, packed_varints<int>(4, {256})).status.ok());
  CHECK_FALSE(from_typed("UINT16", {1}, packed_varints<int>(4, {65536})).status.ok());
  CHECK(from_typed("UINT32", {1}, packed_varints<int64_t>(4, {4294967295})).values<uint32_t>()[0] ==
        4294967295U);
  CHECK(from_typed("UINT64", {1}, packed_varints<int64_t>(5, {-1})).values<uint64_t>()[0] ==
        UINT64_MAX);
  CHECK(from_typed("BOOL", {3}, packed_varints<int>(1, {0, 1, 2})).values<uint8_t>() ==
        std::vector<uint8_t>{0, 1, 1});
}

TEST_CASE("typed contents are read packed, unpacked and in parts") {
  const std::string parts = packed_varints<int>(2, {1, 2}) + number_field(2, 3);
  const std::string rest = bytes_field(5, packed_varints<int>(2, {}) + number_field(2, 4));
  CHECK(from_typed("INT32", {4}, parts, rest).values<int32_t>() ==
        std::vector<int32_t>{1, 2, 3, 4});
  const std::string floats = bytes_field(6, raw<float>({1, 2})) + "\x35" + raw<float>({3});
  CHECK(from_typed("FP32", {3}, floats).values<float>() == std::vector<float>{1, 2, 3});
  const std::string doubles = "\x39" + raw<double>({1}) + bytes_field(7, raw<double>({2, 3}));
  CHECK(from_typed("FP64", {3}, doubles).values<double>() == std::vector<double>{1, 2, 3});
  CHECK(from_typed("FP32", {2}, bytes_field(6, raw<float>({1, 2}))).values<float>() ==
        std::vector<float>{1, 2});
  CHECK(from_typed("BYTES", {2}, bytes_field(8, "") + bytes_field(8, "b")).strings() ==
        std::vector<std::string>{"", "b"});
  CHECK(from_typed("FP32", {0, 4}, "").tensor.data != nullptr);
}

TEST_CASE("typed contents of the wrong field, number or form are refused") {
  CHECK(from_typed("FP32", {1}, packed_varints<int>(2, {1})).status.message() ==
        "input 'x': expected fp32_contents for float32[1], got int_contents");
  CHECK(from_typed("INT32", {2}, packed_varints<int>(2, {1})).status.message() ==
        "input 'x': expected 2 elements for int32[2], got 1");
  CHECK(from_typed("FP16", {1}, "").status.message() ==
        "input 'x': expected raw_input_contents for FP16, got none");
  CHECK_FALSE(from_typed("BF16", {1}, packed_varints<int>(4, {1})).status.ok());
  CHECK_FALSE(from_typed("FP32", {1}, bytes_field(6, "12345")).status.ok());
  CHECK_FALSE(from_typed("INT64", {1}, bytes_field(3, "\x80")).status.ok());
  CHECK_FALSE(
      from_typed("INT64", {1}, bytes_field(3, std::string(11, '\x80') + "\x01")).status.ok());
  CHECK_FALSE(from_typed("INT64", {1}, bytes_field(3, std::string("\x01\x80", 2))).status.ok());
}

}  // namespace
}  // namespace pyruntime
