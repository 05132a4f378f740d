#include "memory/tensor.h"

#include <array>

namespace pyruntime {
namespace {

struct DataTypeEntry {
  std::size_t size_bytes;
  std::string_view name;
  std::string_view protocol_name;
};

// In the order of DataType.
constexpr std::array<DataTypeEntry, kDataTypeCount> kDataTypes{{
    {1, "bool", "BOOL"},
    {1, "uint8", "UINT8"},
    {2, "uint16", "UINT16"},
    {4, "uint32", "UINT32"},
    {8, "uint64", "UINT64"},
    {1, "int8", "INT8"},
    {2, "int16", "INT16"},
    {4, "int32", "INT32"},
    {8, "int64", "INT64"},
    {2, "float16", "FP16"},
    {2, "bfloat16", "BF16"},
    {4, "float32", "FP32"},
    {8, "float64", "FP64"},
    {sizeof(StringRef), "string", "BYTES"},
}};
static_assert(static_cast<int>(DataType::kString) == kDataTypeCount - 1);

const DataTypeEntry& entry_of(DataType type) { return kDataTypes[static_cast<std::size_t>(type)]; }

// Of `first` and all dimensions; the overflow of those that are not zero counts.
std::optional<int64_t> checked_product(int64_t first, std::span<const int64_t> dims) {
  int64_t product = first;
  bool is_empty = false;
  for (const int64_t dim : dims) {
    if (dim < 0) return std::nullopt;
    if (dim == 0) {
      is_empty = true;
    } else if (__builtin_mul_overflow(product, dim, &product)) {
      return std::nullopt;
    }
  }
  return is_empty ? 0 : product;
}

}  // namespace

std::size_t element_size_bytes(DataType type) { return entry_of(type).size_bytes; }

std::string_view data_type_name(DataType type) { return entry_of(type).name; }

std::string_view data_type_protocol_name(DataType type) { return entry_of(type).protocol_name; }

std::optional<DataType> data_type_from_protocol_name(std::string_view name) {
  for (std::size_t i = 0; i < kDataTypes.size(); ++i) {
    if (kDataTypes[i].protocol_name == name) return static_cast<DataType>(i);
  }
  return std::nullopt;
}

Shape::Shape(std::span<const int64_t> dims) {
  if (dims.size() > kMaxRank) {
    throw Error(ErrorCode::kInvalidInput, "shape: expected at most " + std::to_string(kMaxRank) +
                                              " dimensions, got " + std::to_string(dims.size()));
  }
  std::copy(dims.begin(), dims.end(), dims_.begin());
  rank_ = static_cast<uint8_t>(dims.size());
}

std::optional<int64_t> Shape::element_count() const { return checked_product(1, dims()); }

std::string Shape::to_string() const {
  std::string text = "[";
  for (std::size_t i = 0; i < rank_; ++i) {
    if (i != 0) text += ", ";
    text += std::to_string(dims_[i]);
  }
  return text + "]";
}

std::optional<std::size_t> size_bytes_of(DataType type, const Shape& shape) {
  const auto element_bytes = static_cast<int64_t>(element_size_bytes(type));
  const std::optional<int64_t> size_bytes = checked_product(element_bytes, shape.dims());
  if (!size_bytes) return std::nullopt;
  return static_cast<std::size_t>(*size_bytes);
}

std::size_t Tensor::size_bytes() const {
  std::size_t size_bytes = element_size_bytes(type);
  for (const int64_t dim : shape.dims()) size_bytes *= static_cast<std::size_t>(dim);
  return size_bytes;
}

std::size_t Tensor::row_bytes() const {
  std::size_t size_bytes = element_size_bytes(type);
  for (const int64_t dim : shape.dims().subspan(1)) size_bytes *= static_cast<std::size_t>(dim);
  return size_bytes;
}

std::string describe(const Tensor& tensor) {
  return std::string(data_type_name(tensor.type)) + tensor.shape.to_string();
}

}  // namespace pyruntime
