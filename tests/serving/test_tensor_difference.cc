#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "serving/tensor_difference.h"

namespace pyruntime {
namespace {

template <typename T>
Tensor view(DataType type, std::vector<T>& values) {
  Tensor tensor;
  tensor.type = type;
  tensor.shape = Shape{static_cast<int64_t>(values.size())};
  tensor.data = reinterpret_cast<std::byte*>(values.data());
  return tensor;
}

template <typename T>
Difference compared(DataType type, std::vector<T> expected, std::vector<T> actual,
                    const Tolerance& tolerance = {}) {
  return difference(view(type, expected), view(type, actual), tolerance);
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::nanf("");

}  // namespace

TEST_CASE("equal tensors do not differ, NaN and infinity included") {
  const Difference found =
      compared<float>(DataType::kFloat32, {1, kNan, kInfinity, -0.0F}, {1, kNan, kInfinity, 0.0F});
  CHECK(found.is_within());
  CHECK(found.max_absolute == 0);
}

TEST_CASE("an element may be off by the absolute and the relative tolerance together") {
  const Tolerance tolerance{0.5, 0.125};
  CHECK(compared<double>(DataType::kFloat64, {8, -8}, {9.5, -6.5}, tolerance).is_within());
  const Difference found = compared<double>(DataType::kFloat64, {8, 8, 1}, {8, 9.75, 3}, tolerance);
  CHECK(found.beyond == 2);
  CHECK(found.max_absolute == 2);
  CHECK(found.max_relative == 2);
  CHECK(found.first == "element 1: expected 8, got 9.75");
}

TEST_CASE("a number against none is infinitely far") {
  const Tolerance wide{1e30, 1e30};
  CHECK(!compared<float>(DataType::kFloat32, {1}, {kNan}, wide).is_within());
  CHECK(!compared<float>(DataType::kFloat32, {kNan}, {1}, wide).is_within());
  CHECK(!compared<float>(DataType::kFloat32, {kInfinity}, {-kInfinity}, wide).is_within());
  CHECK(std::isinf(compared<float>(DataType::kFloat32, {1}, {kInfinity}, wide).max_absolute));
}

TEST_CASE("half precision is compared as numbers") {
  // 1.0, -2.0, the smallest subnormal, infinity; then 1.0 + 2^-10, and the rest the same.
  const std::vector<uint16_t> halves{0x3C00, 0xC000, 0x0001, 0x7C00};
  const std::vector<uint16_t> others{0x3C01, 0xC000, 0x0001, 0x7C00};
  Difference found = compared(DataType::kFloat16, halves, others);
  CHECK(found.beyond == 1);
  CHECK(found.max_absolute == 0x1p-10);
  found = compared<uint16_t>(DataType::kBfloat16, {0x3F80, 0x7FC0}, {0x4000, 0x7FC0});
  CHECK(found.beyond == 1);
  CHECK(found.max_absolute == 1);
}

TEST_CASE("large integers that are one double still differ") {
  constexpr int64_t kLarge = (int64_t{1} << 53) + 1;
  const Difference found = compared<int64_t>(DataType::kInt64, {kLarge}, {kLarge - 1});
  CHECK(found.beyond == 1);
  CHECK(found.max_absolute == 1);
  CHECK(compared<int64_t>(DataType::kInt64, {kLarge}, {kLarge - 1}, {1, 0}).is_within());
  CHECK(compared<uint64_t>(DataType::kUint64, {UINT64_MAX}, {0}).max_absolute > 1e19);
  CHECK(compared<int64_t>(DataType::kInt64, {INT64_MIN}, {INT64_MAX}).max_absolute > 1e19);
}

TEST_CASE("strings are the same or not") {
  const auto strings = [](const std::string& text) {
    return std::vector<StringRef>{{text.data(), text.size()}};
  };
  const std::string a("a\0b", 3);
  const std::string b("a\0c", 3);
  CHECK(compared(DataType::kString, strings(a), strings(a)).is_within());
  CHECK(compared(DataType::kString, strings(a), strings(b)).beyond == 1);
}

TEST_CASE("another type or shape cannot be compared, and says so") {
  std::vector<float> floats{1, 2};
  std::vector<double> doubles{1, 2};
  Difference found =
      difference(view(DataType::kFloat32, floats), view(DataType::kFloat64, doubles), {});
  CHECK(found.first == "expected float32[2], got float64[2]");
  Tensor other = view(DataType::kFloat32, floats);
  other.shape = Shape{1, 2};
  found = difference(view(DataType::kFloat32, floats), other, {});
  CHECK(found.first == "expected float32[2], got float32[1, 2]");
  CHECK(std::isinf(found.max_absolute));
}

TEST_CASE("empty tensors are equal") {
  CHECK(compared<float>(DataType::kFloat32, {}, {}).is_within());
}

}  // namespace pyruntime
