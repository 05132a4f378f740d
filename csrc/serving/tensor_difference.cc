#include "serving/tensor_difference.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

namespace pyruntime {
namespace {

// IEEE 754 binary16.
struct Half {
  uint16_t bits;
};
struct Bfloat {
  uint16_t bits;
};

double to_double(Half half) {
  constexpr int kMantissaBits = 10;
  constexpr int kLargestExponent = 31;
  const int exponent = half.bits >> kMantissaBits & 0x1F;
  const int mantissa = half.bits & 0x3FF;
  const double sign = (half.bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == kLargestExponent) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(mantissa + (1 << kMantissaBits), exponent - 25);
}
double to_double(Bfloat value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}
template <typename T>
double to_double(T value) {
  return static_cast<double>(value);
}

template <typename T>
T element(const Tensor& tensor, int64_t index) {
  T value;  // the memory need not be aligned
  std::memcpy(&value, tensor.data + static_cast<std::size_t>(index) * sizeof(T), sizeof(T));
  return value;
}

std::string text_of(double number) {
  std::array<char, 32> text{};
  const int size = std::snprintf(text.data(), text.size(), "%.9g", number);
  return {text.data(), static_cast<std::size_t>(size)};
}

class Comparison {
 public:
  explicit Comparison(const Tolerance& tolerance) : tolerance_(tolerance) {}

  void add(int64_t index, double expected, double actual) {
    if (expected == actual || (std::isnan(expected) && std::isnan(actual))) return;
    double absolute = std::abs(expected - actual);
    if (std::isnan(absolute)) absolute = std::numeric_limits<double>::infinity();
    const double size = std::abs(expected);
    const double relative =
        size > 0 && std::isfinite(size) ? absolute / size : std::numeric_limits<double>::infinity();
    found_.max_absolute = std::max(found_.max_absolute, absolute);
    found_.max_relative = std::max(found_.max_relative, relative);
    const double limit = tolerance_.absolute + tolerance_.relative * size;
    if (std::isfinite(absolute) && absolute <= limit) return;
    note(index, text_of(expected), text_of(actual));
  }

  // Of two integers that are one double: they differ by less than a double can say.
  template <typename T>
  void add_least(int64_t index, T expected, T actual) {
    const double size = std::abs(static_cast<double>(expected));
    const auto distance = static_cast<double>(
        expected > actual ? static_cast<uint64_t>(expected) - static_cast<uint64_t>(actual)
                          : static_cast<uint64_t>(actual) - static_cast<uint64_t>(expected));
    found_.max_absolute = std::max(found_.max_absolute, distance);
    found_.max_relative = std::max(found_.max_relative, distance / size);
    if (distance <= tolerance_.absolute + tolerance_.relative * size) return;
    note(index, std::to_string(expected), std::to_string(actual));
  }

  void note(int64_t index, const std::string& expected, const std::string& actual) {
    if (found_.beyond++ != 0) return;
    found_.first =
        "element " + std::to_string(index) + ": expected " + expected + ", got " + actual;
  }

  Difference found() { return std::move(found_); }

 private:
  const Tolerance tolerance_;
  Difference found_;
};

template <typename T>
Difference compare(const Tensor& expected, const Tensor& actual, int64_t count,
                   const Tolerance& tolerance) {
  Comparison comparison(tolerance);
  const auto bytes = static_cast<std::size_t>(count) * sizeof(T);
  // Tensors without elements may have no address.
  if (bytes == 0 || std::memcmp(expected.data, actual.data, bytes) == 0) return {};
  for (int64_t i = 0; i < count; ++i) {
    const T wanted = element<T>(expected, i);
    const T got = element<T>(actual, i);
    comparison.add(i, to_double(wanted), to_double(got));
    if constexpr (std::is_integral_v<T>) {
      // Beyond 2^53 two integers may be one double.
      if (wanted != got && to_double(wanted) == to_double(got))
        comparison.add_least(i, wanted, got);
    }
  }
  return comparison.found();
}

Difference compare_strings(const Tensor& expected, const Tensor& actual, int64_t count) {
  Comparison comparison({});
  for (int64_t i = 0; i < count; ++i) {
    const auto wanted = element<StringRef>(expected, i);
    const auto got = element<StringRef>(actual, i);
    if (wanted.view() == got.view()) continue;
    comparison.note(i, "a string of " + std::to_string(wanted.size_bytes) + " bytes",
                    "another of " + std::to_string(got.size_bytes));
  }
  return comparison.found();
}

}  // namespace

Difference difference(const Tensor& expected, const Tensor& actual, const Tolerance& tolerance) {
  if (expected.type != actual.type || !(expected.shape == actual.shape)) {
    Difference other;
    other.beyond = 1;
    other.max_absolute = other.max_relative = std::numeric_limits<double>::infinity();
    other.first = "expected " + describe(expected) + ", got " + describe(actual);
    return other;
  }
  const int64_t count = expected.shape.element_count().value_or(0);
  switch (expected.type) {
    case DataType::kBool:
    case DataType::kUint8:
      return compare<uint8_t>(expected, actual, count, tolerance);
    case DataType::kUint16:
      return compare<uint16_t>(expected, actual, count, tolerance);
    case DataType::kUint32:
      return compare<uint32_t>(expected, actual, count, tolerance);
    case DataType::kUint64:
      return compare<uint64_t>(expected, actual, count, tolerance);
    case DataType::kInt8:
      return compare<int8_t>(expected, actual, count, tolerance);
    case DataType::kInt16:
      return compare<int16_t>(expected, actual, count, tolerance);
    case DataType::kInt32:
      return compare<int32_t>(expected, actual, count, tolerance);
    case DataType::kInt64:
      return compare<int64_t>(expected, actual, count, tolerance);
    case DataType::kFloat16:
      return compare<Half>(expected, actual, count, tolerance);
    case DataType::kBfloat16:
      return compare<Bfloat>(expected, actual, count, tolerance);
    case DataType::kFloat32:
      return compare<float>(expected, actual, count, tolerance);
    case DataType::kFloat64:
      return compare<double>(expected, actual, count, tolerance);
    case DataType::kString:
      return compare_strings(expected, actual, count);
  }
  return {};
}

}  // namespace pyruntime
