#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "memory/tensor.h"

using namespace pyruntime;

namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

}  // namespace

TEST_CASE("every data type has a size and names, and its protocol name leads back to it") {
  for (int i = 0; i < kDataTypeCount; ++i) {
    const auto type = static_cast<DataType>(i);
    CHECK(element_size_bytes(type) > 0);
    CHECK_FALSE(data_type_name(type).empty());
    CHECK(data_type_from_protocol_name(data_type_protocol_name(type)) == type);
  }
  CHECK(data_type_name(DataType::kFloat16) == "float16");
  CHECK(data_type_name(DataType::kBfloat16) == "bfloat16");
  CHECK(data_type_protocol_name(DataType::kBfloat16) == "BF16");
  CHECK(data_type_protocol_name(DataType::kString) == "BYTES");
  CHECK(element_size_bytes(DataType::kBool) == 1);
  CHECK(element_size_bytes(DataType::kFloat64) == 8);
  CHECK(element_size_bytes(DataType::kString) == sizeof(StringRef));
  for (const char* name : {"", "fp32", "FP128", "FP32 "}) {
    CHECK_FALSE(data_type_from_protocol_name(name).has_value());
  }
}

TEST_CASE("a string's view keeps its zero bytes") {
  const char bytes[] = {'a', 0, 'b'};
  CHECK(StringRef{bytes, 3}.view() == std::string("a\0b", 3));
  CHECK(StringRef{}.view().empty());
}

TEST_CASE("a shape counts its elements") {
  CHECK(Shape().element_count() == 1);
  CHECK(Shape({0}).element_count() == 0);
  CHECK(Shape({4, 128}).element_count() == 512);
  CHECK(Shape({4, 0, 128}).element_count() == 0);
  CHECK(Shape({kMax}).element_count() == kMax);
}

TEST_CASE("a shape with a negative dimension or too many elements has no count") {
  CHECK_FALSE(Shape({-1}).element_count().has_value());
  CHECK_FALSE(Shape({0, -1}).element_count().has_value());
  CHECK_FALSE(Shape({-1, -1}).element_count().has_value());
  CHECK_FALSE(Shape({kMax, 2}).element_count().has_value());
  CHECK_FALSE(Shape({int64_t{1} << 32, int64_t{1} << 32}).element_count().has_value());
  // Else a row of it would overflow.
  CHECK_FALSE(Shape({0, kMax, kMax}).element_count().has_value());
}

TEST_CASE("the bytes of a shape are checked too") {
  CHECK(size_bytes_of(DataType::kFloat32, Shape({4, 128})) == 2048);
  CHECK(size_bytes_of(DataType::kFloat32, Shape()) == 4);
  CHECK(size_bytes_of(DataType::kInt8, Shape({kMax})) == static_cast<std::size_t>(kMax));
  CHECK_FALSE(size_bytes_of(DataType::kFloat64, Shape({kMax})).has_value());
  CHECK_FALSE(size_bytes_of(DataType::kFloat64, Shape({0, kMax})).has_value());
  CHECK_FALSE(size_bytes_of(DataType::kInt8, Shape({-4})).has_value());
}

TEST_CASE("a shape has at most 16 dimensions") {
  CHECK(Shape(std::vector<int64_t>(16, 1)).rank() == 16);
  CHECK_THROWS_WITH_AS(Shape(std::vector<int64_t>(17, 1)),
                       "shape: expected at most 16 dimensions, got 17", Error);
}

TEST_CASE("shapes are equal when rank and dimensions are") {
  CHECK(Shape({2, 3}) == Shape({2, 3}));
  CHECK_FALSE(Shape({2, 3}) == Shape({3, 2}));
  CHECK_FALSE(Shape({2}) == Shape({2, 1}));
  CHECK(Shape() == Shape(std::span<const int64_t>()));
  Shape shape({2, 3});
  shape[0] = 5;
  CHECK(shape == Shape({5, 3}));
  const Shape copy = shape;  // NOLINT(performance-unnecessary-copy-initialization)
  CHECK(copy == shape);
}

TEST_CASE("a tensor describes itself and knows its bytes") {
  std::array<float, 6> values{1, 2, 3, 4, 5, 6};
  Tensor tensor;
  tensor.shape = Shape({2, 3});
  tensor.data = reinterpret_cast<std::byte*>(values.data());
  CHECK(describe(tensor) == "float32[2, 3]");
  CHECK(tensor.size_bytes() == 24);
  CHECK(tensor.row_bytes() == 12);
  CHECK(tensor.data_as<float>()[5] == 6.0F);
  CHECK(describe(Tensor()) == "float32[]");
  CHECK(Tensor().size_bytes() == 4);
  tensor.shape = Shape({0, 3});
  CHECK(tensor.size_bytes() == 0);
  CHECK(tensor.row_bytes() == 12);
}
