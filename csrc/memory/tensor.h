// A typed, shaped view of memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/cache_line.h"
#include "base/error.h"
#include "memory/buffer.h"
#include "memory/device.h"

namespace pyruntime {

// Numbered for this project; engines and the protocol have their own numbers.
enum class DataType : uint8_t {
  kBool = 0,
  kUint8,
  kUint16,
  kUint32,
  kUint64,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kFloat16,
  kBfloat16,
  kFloat32,
  kFloat64,
  kString,  // elements are StringRef
};
inline constexpr int kDataTypeCount = 14;

// An element of a string tensor: any bytes, zero bytes included. The bytes are
// kept alive by the tensor's buffer or by whoever owns the request.
struct StringRef {
  const char* data = nullptr;
  std::size_t size_bytes = 0;
  std::string_view view() const { return {data, size_bytes}; }
};

// Of one element in memory; a string's is sizeof(StringRef).
std::size_t element_size_bytes(DataType type);

// "float32", "string": NumPy's names, and "bfloat16".
std::string_view data_type_name(DataType type);
// "FP32", "BYTES": the Open Inference Protocol's names.
std::string_view data_type_protocol_name(DataType type);
std::optional<DataType> data_type_from_protocol_name(std::string_view name);

// Up to kMaxRank dimensions, none negative in a tensor (a model's declared
// shape uses TensorSpec, where -1 stands for any).
class Shape {
 public:
  static constexpr std::size_t kMaxRank = 16;

  Shape() = default;  // a scalar's
  // Copies what is set: a cache line, not three.
  Shape(const Shape& other) { *this = other; }
  Shape& operator=(const Shape& other) {
    rank_ = other.rank_;
    std::copy_n(other.dims_.begin(), other.rank_, dims_.begin());
    return *this;
  }
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  // Throws InvalidInput above kMaxRank.
  explicit Shape(std::span<const int64_t> dims);

  std::size_t rank() const { return rank_; }
  int64_t operator[](std::size_t i) const { return dims_[i]; }
  int64_t& operator[](std::size_t i) { return dims_[i]; }
  std::span<const int64_t> dims() const { return {dims_.data(), rank_}; }
  const int64_t* data() const { return dims_.data(); }

  // Elements, or nothing if a dimension is negative or the product of those
  // that are not zero overflows (so that a row's size is known in [0, ...] too).
  std::optional<int64_t> element_count() const;

  // "[4, 128]"
  std::string to_string() const;

  friend bool operator==(const Shape& a, const Shape& b) {
    return std::equal(a.dims().begin(), a.dims().end(), b.dims().begin(), b.dims().end());
  }

 private:
  uint8_t rank_ = 0;                    // before the dimensions, beside the first
  std::array<int64_t, kMaxRank> dims_;  // the first rank_ are set
};

// Of a whole tensor in memory; nothing on the same terms as element_count(), or
// when the bytes overflow. What strings point to is not counted.
std::optional<std::size_t> size_bytes_of(DataType type, const Shape& shape);

// Row-major and contiguous. A view: `buffer` keeps the memory alive where this
// tensor has to; it is null where someone else does. Up to four dimensions, all
// lies in one cache line.
struct alignas(kCacheLine) Tensor {
  std::byte* data = nullptr;  // null: not there (an output not made yet)
  Buffer buffer;
  DataType type = DataType::kFloat32;
  Device device;
  Shape shape;

  // Of a shape known to be valid.
  std::size_t size_bytes() const;
  std::size_t row_bytes() const;  // of one index of dimension 0; rank at least 1

  template <typename T>
  T* data_as() const {
    return reinterpret_cast<T*>(data);
  }
};

// "float32[4, 128]"
std::string describe(const Tensor& tensor);

}  // namespace pyruntime
