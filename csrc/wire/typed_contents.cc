#include "wire/typed_contents.h"

#include <array>
#include <cstring>
#include <limits>
#include <span>
#include <string>

#include "wire/tensor_contents.h"
#include "wire/text.h"

namespace pyruntime {
namespace {

// What every element type needs to know of its wire form.
constexpr std::array<std::string_view, 9> kContentsNames{
    "",
    "bool_contents",
    "int_contents",
    "int64_contents",
    "uint_contents",
    "uint64_contents",
    "fp32_contents",
    "fp64_contents",
    "bytes_contents",
};
constexpr uint32_t kBytesContents = 8;

constexpr WireType scalar_wire_type(uint32_t contents_field) {
  switch (contents_field) {
    case 6:
      return WireType::kFixed32;
    case 7:
      return WireType::kFixed64;
    case kBytesContents:
      return WireType::kBytes;
    default:
      return WireType::kVarint;
  }
}

// Calls visit(reader), standing on a field of some InferTensorContents of the
// input, for each; the visitor reads it or skips it.
template <typename Visit>
Status visit_contents(const InferInputView& input, Visit visit) {
  Occurrences contents(input.message, kInputContents);
  ByteSpan message;
  while (contents.next(&message)) {
    ProtobufReader reader(message);
    while (reader.next()) visit(reader);
    if (!reader.ok()) return malformed("input " + quoted(input.name) + ": contents", reader);
  }
  return {};
}

bool is_packed(const ProtobufReader& reader) {
  return reader.wire_type() == WireType::kBytes && reader.field() != kBytesContents;
}

// Reads one field of elements; returns how many it has.
std::size_t count_elements(ProtobufReader& reader) {
  const WireType scalar = scalar_wire_type(reader.field());
  if (!is_packed(reader)) {
    const bool is_element = reader.wire_type() == scalar;
    reader.skip();
    return is_element ? 1 : 0;
  }
  const ByteSpan packed = reader.bytes();
  if (scalar == WireType::kVarint) {
    std::size_t count = 0;
    for (const std::byte byte : packed) count += byte < std::byte{0x80} ? 1 : 0;
    if (!packed.empty() && packed.back() >= std::byte{0x80}) reader.fail("the end inside a number");
    return count;
  }
  const std::size_t element = scalar == WireType::kFixed32 ? 4 : 8;
  if (packed.size() % element != 0) reader.fail("the end inside a number");
  return packed.size() / element;
}

// Writes varint elements that were counted before as T; `wide` is the type
// that the protocol has for them.
template <typename T, typename Wide>
Status unpack_varints(const InferInputView& input, uint32_t field, Tensor* tensor) {
  T* next = tensor->data_as<T>();
  const T* const first = next;
  Status status;
  const auto put = [&](uint64_t value) {
    const auto wide = static_cast<Wide>(value);
    if constexpr (sizeof(T) < sizeof(Wide)) {
      if (wide < std::numeric_limits<T>::min() || wide > std::numeric_limits<T>::max()) {
        if (status.ok()) {
          status = invalid_input(input, "expected " + std::string(data_type_name(tensor->type)) +
                                            " in element " + std::to_string(next - first) +
                                            ", got " + std::to_string(wide));
        }
      }
    }
    *next++ = static_cast<T>(wide);
  };
  Status read = visit_contents(input, [&](ProtobufReader& reader) {
    if (reader.field() != field) return reader.skip();
    if (!is_packed(reader)) {
      if (reader.wire_type() != WireType::kVarint) return reader.skip();
      return put(reader.varint());
    }
    ProtobufReader packed(reader.bytes());
    while (!packed.at_end()) {
      const uint64_t value = packed.varint();
      if (packed.ok()) put(value);
    }
    if (!packed.ok()) reader.fail(packed.error());
  });
  return read.ok() ? status : read;
}

Status unpack_bools(const InferInputView& input, Tensor* tensor) {
  // As 64-bit numbers, of which any but zero is true.
  auto* next = tensor->data_as<uint8_t>();
  return visit_contents(input, [&](ProtobufReader& reader) {
    if (reader.field() != 1) return reader.skip();
    if (!is_packed(reader)) {
      if (reader.wire_type() != WireType::kVarint) return reader.skip();
      *next++ = reader.varint() != 0 ? 1 : 0;
      return;
    }
    ProtobufReader packed(reader.bytes());
    while (!packed.at_end()) {
      const uint64_t value = packed.varint();
      if (packed.ok()) *next++ = value != 0 ? 1 : 0;
    }
    if (!packed.ok()) reader.fail(packed.error());
  });
}

Status unpack_fixed(const InferInputView& input, uint32_t field, std::size_t size_bytes,
                    Scratch& scratch, Tensor* tensor) {
  std::byte* next = nullptr;
  return visit_contents(input, [&](ProtobufReader& reader) {
    if (reader.field() != field) return reader.skip();
    ByteSpan elements;
    uint64_t one = 0;
    if (is_packed(reader)) {
      elements = reader.bytes();
      if (elements.size() == size_bytes) return place(elements, scratch, tensor);
    } else if (reader.tag() == tag_of(6, WireType::kFixed32)) {
      one = reader.fixed32();
      elements = std::as_bytes(std::span(&one, 1)).first(4);
    } else if (reader.tag() == tag_of(7, WireType::kFixed64)) {
      one = reader.fixed64();
      elements = std::as_bytes(std::span(&one, 1));
    } else {
      return reader.skip();
    }
    if (elements.empty()) return;
    if (next == nullptr) next = tensor->data = scratch.allocate(size_bytes);
    std::memcpy(next, elements.data(), elements.size());
    next += elements.size();
  });
}

Status unpack_strings(const InferInputView& input, Tensor* tensor) {
  auto* next = tensor->data_as<StringRef>();
  return visit_contents(input, [&](ProtobufReader& reader) {
    if (reader.tag() != tag_of(kBytesContents, WireType::kBytes)) return reader.skip();
    const ByteSpan bytes = reader.bytes();
    if (reader.ok()) *next++ = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  });
}

Status unpack(const InferInputView& input, std::size_t size_bytes, Scratch& scratch,
              Tensor* tensor) {
  const uint32_t field = contents_field_of(tensor->type);
  if (tensor->type == DataType::kFloat32 || tensor->type == DataType::kFloat64) {
    return unpack_fixed(input, field, size_bytes, scratch, tensor);
  }
  tensor->data = scratch.allocate(size_bytes);
  switch (tensor->type) {
    case DataType::kBool:
      return unpack_bools(input, tensor);
    case DataType::kInt8:
      return unpack_varints<int8_t, int32_t>(input, field, tensor);
    case DataType::kInt16:
      return unpack_varints<int16_t, int32_t>(input, field, tensor);
    case DataType::kInt32:
      return unpack_varints<int32_t, int32_t>(input, field, tensor);
    case DataType::kInt64:
      return unpack_varints<int64_t, int64_t>(input, field, tensor);
    case DataType::kUint8:
      return unpack_varints<uint8_t, uint32_t>(input, field, tensor);
    case DataType::kUint16:
      return unpack_varints<uint16_t, uint32_t>(input, field, tensor);
    case DataType::kUint32:
      return unpack_varints<uint32_t, uint32_t>(input, field, tensor);
    case DataType::kUint64:
      return unpack_varints<uint64_t, uint64_t>(input, field, tensor);
    default:
      return unpack_strings(input, tensor);
  }
}

}  // namespace

uint32_t contents_field_of(DataType type) {
  switch (type) {
    case DataType::kBool:
      return 1;
    case DataType::kInt8:
    case DataType::kInt16:
    case DataType::kInt32:
      return 2;
    case DataType::kInt64:
      return 3;
    case DataType::kUint8:
    case DataType::kUint16:
    case DataType::kUint32:
      return 4;
    case DataType::kUint64:
      return 5;
    case DataType::kFloat32:
      return 6;
    case DataType::kFloat64:
      return 7;
    case DataType::kString:
      return kBytesContents;
    case DataType::kFloat16:
    case DataType::kBfloat16:
      break;
  }
  return 0;
}

Status tensor_from_typed(const InferInputView& input, Scratch& scratch, Tensor* tensor) {
  std::size_t elements = 0;
  std::size_t size_bytes = 0;
  if (Status status = describe_tensor(input, tensor, &elements, &size_bytes); !status.ok()) {
    return status;
  }
  if (is_raw_only(tensor->type)) {
    return invalid_input(
        input, "expected raw_input_contents for " + std::string(input.datatype) + ", got none");
  }
  const uint32_t expected = contents_field_of(tensor->type);
  std::size_t count = 0;
  uint32_t other = 0;
  Status status = visit_contents(input, [&](ProtobufReader& reader) {
    const uint32_t field = reader.field();
    if (field >= kContentsNames.size()) return reader.skip();
    const std::size_t here = count_elements(reader);
    if (field == expected) {
      count += here;
    } else if (here != 0) {
      other = field;
    }
  });
  if (!status.ok()) return status;
  if (other != 0) {
    return invalid_input(input, "expected " + std::string(kContentsNames[expected]) + " for " +
                                    describe(*tensor) + ", got " +
                                    std::string(kContentsNames[other]));
  }
  if (count != elements) return wrong_count(input, elements, "elements", *tensor, count);
  if (elements == 0) {
    place({}, scratch, tensor);
    return {};
  }
  return unpack(input, size_bytes, scratch, tensor);
}

}  // namespace pyruntime
