#include "memory/element.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace pyruntime {
namespace {

template <typename T>
void put(double value, std::byte* to) {
  const auto typed = static_cast<T>(value);
  std::memcpy(to, &typed, sizeof(T));
}

template <typename T>
bool try_put_integer(double value, std::byte* to) {
  if (std::floor(value) != value || value < static_cast<double>(std::numeric_limits<T>::min()) ||
      value > static_cast<double>(std::numeric_limits<T>::max())) {
    return false;
  }
  put<T>(value, to);
  return true;
}

// float32 bits to those of a shorter float, rounded to nearest even; for ordinary values.
uint16_t to_bfloat16(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

uint16_t to_float16(float value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const float size = std::fabs(value);
  if (std::isnan(value)) return sign | 0x7E00;
  if (size >= 65520.0F) return sign | 0x7C00;
  if (size < 6.103515625e-05F) {  // subnormal: multiples of 2^-24
    return static_cast<uint16_t>(sign |
                                 static_cast<uint16_t>(std::nearbyint(std::ldexp(size, 24))));
  }
  int exponent = 0;
  const float fraction = std::frexp(size, &exponent);                                // 0.5 to 1
  const auto mantissa = static_cast<int>(std::nearbyint(std::ldexp(fraction, 11)));  // 1024 to 2048
  return static_cast<uint16_t>(sign + ((exponent + 14) << 10) + (mantissa - 1024));
}

}  // namespace

bool write_element(DataType type, double value, std::byte* to) {
  switch (type) {
    case DataType::kBool:
      if (value != 0 && value != 1) return false;
      put<uint8_t>(value, to);
      return true;
    case DataType::kUint8:
      return try_put_integer<uint8_t>(value, to);
    case DataType::kUint16:
      return try_put_integer<uint16_t>(value, to);
    case DataType::kUint32:
      return try_put_integer<uint32_t>(value, to);
    case DataType::kUint64:
      return try_put_integer<uint64_t>(value, to);
    case DataType::kInt8:
      return try_put_integer<int8_t>(value, to);
    case DataType::kInt16:
      return try_put_integer<int16_t>(value, to);
    case DataType::kInt32:
      return try_put_integer<int32_t>(value, to);
    case DataType::kInt64:
      return try_put_integer<int64_t>(value, to);
    case DataType::kFloat16: {
      const uint16_t bits = to_float16(static_cast<float>(value));
      std::memcpy(to, &bits, sizeof(bits));
      return true;
    }
    case DataType::kBfloat16: {
      const uint16_t bits = to_bfloat16(static_cast<float>(value));
      std::memcpy(to, &bits, sizeof(bits));
      return true;
    }
    case DataType::kFloat32:
      put<float>(value, to);
      return true;
    case DataType::kFloat64:
      put<double>(value, to);
      return true;
    case DataType::kString:
      break;
  }
  return false;
}

}  // namespace pyruntime
