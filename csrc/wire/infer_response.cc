#include "wire/infer_response.h"

#include <algorithm>

#include "wire/protobuf_writer.h"
#include "wire/typed_contents.h"

namespace pyruntime {
namespace {

// Numbers of the fields, from proto/inference.proto.
constexpr uint32_t kModelName = 1;
constexpr uint32_t kModelVersion = 2;
constexpr uint32_t kId = 3;
constexpr uint32_t kParameters = 4;
constexpr uint32_t kOutputs = 5;
constexpr uint32_t kRawOutputContents = 6;
constexpr uint32_t kTensorName = 1;
constexpr uint32_t kTensorDatatype = 2;
constexpr uint32_t kTensorShape = 3;
constexpr uint32_t kTensorParameters = 4;
constexpr uint32_t kTensorContents = 5;

constexpr uint32_t kEntryKey = 1;  // of a map
constexpr uint32_t kEntryValue = 2;
constexpr uint32_t kInt64Parameter = 2;  // of InferParameter
constexpr uint32_t kStringParameter = 3;

// proto3 leaves out what is empty.
std::size_t optional_field_size(uint32_t field, std::size_t size) {
  return size == 0 ? 0 : bytes_field_size(field, size);
}

void write_optional(ProtobufWriter& writer, uint32_t field, std::string_view value) {
  if (!value.empty()) writer.bytes_field(field, value);
}

// An entry of `parameters`.
std::size_t entry_size(std::string_view key, std::string_view value) {
  return bytes_field_size(kEntryKey, key.size()) +
         bytes_field_size(kEntryValue, bytes_field_size(kStringParameter, value.size()));
}

std::size_t parameter_size(uint32_t field, std::string_view key, std::string_view value) {
  return value.empty() ? 0 : bytes_field_size(field, entry_size(key, value));
}

void write_parameter(ProtobufWriter& writer, uint32_t field, std::string_view key,
                     std::string_view value) {
  if (value.empty()) return;
  writer.open(field, entry_size(key, value));
  writer.bytes_field(kEntryKey, key);
  writer.open(kEntryValue, bytes_field_size(kStringParameter, value.size()));
  writer.bytes_field(kStringParameter, value);
}

// The same of an integer.
std::size_t number_value_size(uint64_t value) {
  return varint_size(tag_of(kInt64Parameter, WireType::kVarint)) + varint_size(value);
}

std::size_t number_entry_size(std::string_view key, uint64_t value) {
  return bytes_field_size(kEntryKey, key.size()) +
         bytes_field_size(kEntryValue, number_value_size(value));
}

void write_number(ProtobufWriter& writer, std::string_view key, uint64_t value) {
  writer.open(kTensorParameters, number_entry_size(key, value));
  writer.bytes_field(kEntryKey, key);
  writer.open(kEntryValue, number_value_size(value));
  writer.varint(tag_of(kInt64Parameter, WireType::kVarint));
  writer.varint(value);
}

// What a client reads to find an output that is not in the message.
constexpr std::string_view kRegion = "shared_memory_region";
constexpr std::string_view kRegionSize = "shared_memory_byte_size";
constexpr std::string_view kRegionOffset = "shared_memory_offset";

std::size_t place_size(const SharedPlace& place, uint64_t size_bytes) {
  std::size_t size =
      parameter_size(kTensorParameters, kRegion, place.region) +
      bytes_field_size(kTensorParameters, number_entry_size(kRegionSize, size_bytes));
  if (place.offset != 0) {
    size += bytes_field_size(kTensorParameters, number_entry_size(kRegionOffset, place.offset));
  }
  return size;
}

void write_place(ProtobufWriter& writer, const SharedPlace& place, uint64_t size_bytes) {
  write_parameter(writer, kTensorParameters, kRegion, place.region);
  write_number(writer, kRegionSize, size_bytes);
  if (place.offset != 0) write_number(writer, kRegionOffset, place.offset);
}

template <typename T>
std::span<const T> elements_of(const Tensor& tensor) {
  return {tensor.data_as<T>(), tensor.size_bytes() / sizeof(T)};
}

// A varint holds integers sign-extended to 64 bits.
template <typename T>
uint64_t widened(T value) {
  return static_cast<uint64_t>(static_cast<int64_t>(value));
}

// Calls visit(span of the element type) for a tensor of integers.
template <typename Visit>
void visit_integers(const Tensor& tensor, Visit visit) {
  switch (tensor.type) {
    case DataType::kInt8:
      return visit(elements_of<int8_t>(tensor));
    case DataType::kInt16:
      return visit(elements_of<int16_t>(tensor));
    case DataType::kInt32:
      return visit(elements_of<int32_t>(tensor));
    case DataType::kInt64:
      return visit(elements_of<int64_t>(tensor));
    case DataType::kUint8:
      return visit(elements_of<uint8_t>(tensor));
    case DataType::kUint16:
      return visit(elements_of<uint16_t>(tensor));
    case DataType::kUint32:
      return visit(elements_of<uint32_t>(tensor));
    case DataType::kUint64:
      return visit(elements_of<uint64_t>(tensor));
    default:
      return;
  }
}

bool is_integer(DataType type) { return type >= DataType::kUint8 && type <= DataType::kInt64; }

std::size_t raw_size(const Tensor& tensor) {
  if (tensor.type != DataType::kString) return tensor.size_bytes();
  std::size_t size = 0;
  for (const StringRef& string : elements_of<StringRef>(tensor)) {
    size += sizeof(uint32_t) + string.size_bytes;
  }
  return size;
}

// Of the packed elements; of strings, with their tags and lengths.
std::size_t typed_size(const Tensor& tensor) {
  if (tensor.type == DataType::kString) {
    std::size_t size = 0;
    for (const StringRef& string : elements_of<StringRef>(tensor)) {
      size += bytes_field_size(contents_field_of(tensor.type), string.size_bytes);
    }
    return size;
  }
  if (!is_integer(tensor.type)) return tensor.size_bytes();  // bools and floats
  std::size_t size = 0;
  visit_integers(tensor, [&](auto elements) {
    for (const auto element : elements) size += varint_size(widened(element));
  });
  return size;
}

void write_raw(ProtobufWriter& writer, const Tensor& tensor) {
  if (tensor.type != DataType::kString) return writer.raw(tensor.data, tensor.size_bytes());
  for (const StringRef& string : elements_of<StringRef>(tensor)) {
    const auto size = static_cast<uint32_t>(string.size_bytes);
    writer.raw(&size, sizeof(size));
    writer.raw(string.data, string.size_bytes);
  }
}

void write_typed(ProtobufWriter& writer, const Tensor& tensor, std::size_t size) {
  const uint32_t field = contents_field_of(tensor.type);
  if (tensor.type == DataType::kString) {
    for (const StringRef& string : elements_of<StringRef>(tensor)) {
      writer.bytes_field(field, string.view());
    }
    return;
  }
  writer.open(field, size);
  if (is_integer(tensor.type)) {
    visit_integers(tensor, [&](auto elements) {
      for (const auto element : elements) writer.varint(widened(element));
    });
  } else if (tensor.type == DataType::kBool) {
    for (const uint8_t element : elements_of<uint8_t>(tensor)) writer.varint(element != 0 ? 1 : 0);
  } else {
    writer.raw(tensor.data, tensor.size_bytes());
  }
}

}  // namespace

std::size_t raw_contents_size(const Tensor& tensor) { return raw_size(tensor); }

void write_raw_contents(const Tensor& tensor, std::byte* to) {
  ProtobufWriter writer(to);
  write_raw(writer, tensor);
}

InferResponse::Lengths InferResponse::measure_output(std::size_t output) const {
  const TensorSpec& spec = parts_.specs[output];
  const Tensor& tensor = parts_.tensors[output];
  Lengths lengths;
  for (const int64_t dim : tensor.shape.dims()) lengths.dims += varint_size(widened(dim));
  if (has_place(output)) {
    lengths.parameters = place_size(parts_.places[output], raw_size(tensor));
  } else {
    lengths.elements = is_typed_ ? typed_size(tensor) : raw_size(tensor);
  }
  if (is_typed_ && lengths.elements != 0) {
    lengths.contents = tensor.type == DataType::kString
                           ? lengths.elements
                           : bytes_field_size(contents_field_of(tensor.type), lengths.elements);
  }
  lengths.message = optional_field_size(kTensorName, spec.name.size()) +
                    bytes_field_size(kTensorDatatype, data_type_protocol_name(tensor.type).size()) +
                    optional_field_size(kTensorShape, lengths.dims) + lengths.parameters +
                    optional_field_size(kTensorContents, lengths.contents);
  return lengths;
}

std::size_t InferResponse::measure(const Parts& parts) {
  parts_ = parts;
  is_typed_ = parts.is_typed &&
              std::none_of(parts.tensors.begin(), parts.tensors.end(), [](const Tensor& tensor) {
                return tensor.data != nullptr && is_raw_only(tensor.type);
              });
  lengths_.resize(parts.tensors.size());
  std::size_t size = optional_field_size(kModelName, parts.model_name.size()) +
                     optional_field_size(kModelVersion, parts.model_version.size()) +
                     optional_field_size(kId, parts.id.size()) +
                     parameter_size(kParameters, "experiment", parts.experiment) +
                     parameter_size(kParameters, "arm", parts.arm);
  for (std::size_t i = 0; i < parts.tensors.size(); ++i) {
    if (parts.tensors[i].data == nullptr) continue;
    lengths_[i] = measure_output(i);
    size += bytes_field_size(kOutputs, lengths_[i].message);
    if (!is_typed_) size += bytes_field_size(kRawOutputContents, lengths_[i].elements);
  }
  return size;
}

void InferResponse::encode(std::byte* to) const {
  ProtobufWriter writer(to);
  write_optional(writer, kModelName, parts_.model_name);
  write_optional(writer, kModelVersion, parts_.model_version);
  write_optional(writer, kId, parts_.id);
  write_parameter(writer, kParameters, "experiment", parts_.experiment);
  write_parameter(writer, kParameters, "arm", parts_.arm);
  for (std::size_t i = 0; i < parts_.tensors.size(); ++i) {
    const Tensor& tensor = parts_.tensors[i];
    if (tensor.data == nullptr) continue;
    const Lengths& lengths = lengths_[i];
    writer.open(kOutputs, lengths.message);
    write_optional(writer, kTensorName, parts_.specs[i].name);
    writer.bytes_field(kTensorDatatype, data_type_protocol_name(tensor.type));
    if (lengths.dims != 0) {
      writer.open(kTensorShape, lengths.dims);
      for (const int64_t dim : tensor.shape.dims()) writer.varint(widened(dim));
    }
    if (has_place(i)) write_place(writer, parts_.places[i], raw_size(tensor));
    if (lengths.contents != 0) {
      writer.open(kTensorContents, lengths.contents);
      write_typed(writer, tensor, lengths.elements);
    }
  }
  if (is_typed_) return;
  for (std::size_t i = 0; i < parts_.tensors.size(); ++i) {
    const Tensor& tensor = parts_.tensors[i];
    if (tensor.data == nullptr) continue;
    // Clients count these by the outputs before, those in shared memory included.
    writer.open(kRawOutputContents, lengths_[i].elements);
    if (!has_place(i)) write_raw(writer, tensor);
  }
}

}  // namespace pyruntime
