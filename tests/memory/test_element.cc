#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include <doctest/doctest.h>

#include "memory/element.h"

namespace pyruntime {
namespace {

template <typename T>
T element(DataType type, double value) {
  std::array<std::byte, 8> memory{};
  REQUIRE(write_element(type, value, memory.data()));
  T result{};
  std::memcpy(&result, memory.data(), sizeof(T));
  return result;
}

bool is_element(DataType type, double value) {
  std::array<std::byte, 8> memory{};
  return write_element(type, value, memory.data());
}

}  // namespace

TEST_CASE("integers and floats are written as their type has them") {
  CHECK(element<int64_t>(DataType::kInt64, -100) == -100);
  CHECK(element<uint8_t>(DataType::kUint8, 255) == 255);
  CHECK(element<uint8_t>(DataType::kBool, 1) == 1);
  CHECK(element<float>(DataType::kFloat32, -0.5) == -0.5F);
  CHECK(element<double>(DataType::kFloat64, 1e300) == 1e300);
}

TEST_CASE("short floats are rounded to the nearest, ties to even") {
  CHECK(element<uint16_t>(DataType::kFloat16, 1.0) == 0x3C00);
  CHECK(element<uint16_t>(DataType::kFloat16, -2.5) == 0xC100);
  CHECK(element<uint16_t>(DataType::kFloat16, 65504.0) == 0x7BFF);
  CHECK(element<uint16_t>(DataType::kFloat16, 1e9) == 0x7C00);
  CHECK(element<uint16_t>(DataType::kFloat16, 1.0 + 1.0 / 2048) == 0x3C00);
  CHECK(element<uint16_t>(DataType::kFloat16, 1.0 + 3.0 / 2048) == 0x3C02);
  CHECK(element<uint16_t>(DataType::kFloat16, 1.9999) == 0x4000);
  CHECK(element<uint16_t>(DataType::kFloat16, std::ldexp(1.0, -24)) == 0x0001);
  CHECK(element<uint16_t>(DataType::kBfloat16, 1.0) == 0x3F80);
  CHECK(element<uint16_t>(DataType::kBfloat16, -1e4) == 0xC61C);
  CHECK(element<uint16_t>(DataType::kBfloat16, -std::numeric_limits<double>::infinity()) == 0xFF80);
}

TEST_CASE("what a type does not have is refused") {
  CHECK_FALSE(is_element(DataType::kInt32, 0.5));
  CHECK_FALSE(is_element(DataType::kInt8, 128));
  CHECK_FALSE(is_element(DataType::kUint16, -1));
  CHECK_FALSE(is_element(DataType::kInt64, 1e19));
  CHECK_FALSE(is_element(DataType::kInt64, std::nan("")));
  CHECK_FALSE(is_element(DataType::kBool, 2));
  CHECK_FALSE(is_element(DataType::kString, 0));
}

}  // namespace pyruntime
