#include "wire/tensor_contents.h"

#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "base/metrics.h"
#include "wire/text.h"

namespace pyruntime {
namespace {

Counter misaligned_inputs;

std::byte* writable(const std::byte* data) {
  return const_cast<std::byte*>(data);  // a tensor's inputs are only ever read
}

void place_bools(ByteSpan bytes, Scratch& scratch, Tensor* tensor) {
  uint8_t all = 0;
  for (const std::byte byte : bytes) all |= std::to_integer<uint8_t>(byte);
  if (all <= 1) return place(bytes, scratch, tensor);
  tensor->data = scratch.allocate(bytes.size());
  for (std::size_t i = 0; i < bytes.size(); ++i)
    tensor->data[i] = std::byte{bytes[i] != std::byte{0}};
}

// Calls take(StringRef) for each element until it returns false. Returns the
// offset of an element that does not fit, or the end.
template <typename Take>
std::size_t walk_strings(ByteSpan raw, Take take) {
  std::size_t at = 0;
  while (raw.size() - at >= sizeof(uint32_t)) {
    uint32_t size;
    std::memcpy(&size, raw.data() + at, sizeof(size));
    if (size > raw.size() - at - sizeof(size)) return at;
    take(StringRef{reinterpret_cast<const char*>(raw.data()) + at + sizeof(size), size});
    at += sizeof(size) + size;
  }
  return at;
}

Status place_strings(const InferInputView& input, ByteSpan raw, std::size_t elements,
                     Scratch& scratch, Tensor* tensor) {
  std::size_t count = 0;
  const std::size_t end = walk_strings(raw, [&](StringRef) { ++count; });
  if (end != raw.size()) {
    return invalid_input(input, "expected 4 bytes of length and then as many bytes in element " +
                                    std::to_string(count) + ", got " +
                                    std::to_string(raw.size() - end) + " bytes");
  }
  if (count != elements) return wrong_count(input, elements, "elements", *tensor, count);
  tensor->data = scratch.allocate(elements * sizeof(StringRef));
  auto* next = tensor->data_as<StringRef>();
  walk_strings(raw, [&](StringRef string) { *next++ = string; });
  return {};
}

}  // namespace

Status invalid_input(const InferInputView& input, std::string_view what) {
  return {ErrorCode::kInvalidInput, "input " + quoted(input.name) + ": " + std::string(what)};
}

Status wrong_count(const InferInputView& input, std::size_t expected, std::string_view unit,
                   const Tensor& tensor, std::size_t got) {
  return invalid_input(input, "expected " + std::to_string(expected) + " " + std::string(unit) +
                                  " for " + describe(tensor) + ", got " + std::to_string(got));
}

Status describe_tensor(const InferInputView& input, Tensor* tensor, std::size_t* elements,
                       std::size_t* size_bytes) {
  const std::optional<DataType> type = data_type_from_protocol_name(input.datatype);
  if (!type) {
    return invalid_input(
        input,
        "expected a datatype of BOOL, UINT8 to UINT64, INT8 to INT64, FP16, BF16, FP32, "
        "FP64 or BYTES, got " +
            quoted(input.datatype));
  }
  *tensor = {};
  tensor->type = *type;
  tensor->shape = Shape(std::span(input.dims.data(), input.rank));
  const std::optional<std::size_t> bytes = size_bytes_of(*type, tensor->shape);
  if (!bytes) {
    return invalid_input(input,
                         "expected dimensions that are not negative and whose product fits in 63 "
                         "bits, got " +
                             describe(*tensor));
  }
  *size_bytes = *bytes;
  *elements = *bytes / element_size_bytes(*type);
  return {};
}

void place(ByteSpan bytes, Scratch& scratch, Tensor* tensor) {
  const std::size_t alignment = element_size_bytes(tensor->type);
  if (bytes.empty()) {
    tensor->data = scratch.allocate(alignment);
  } else if (reinterpret_cast<uintptr_t>(bytes.data()) % alignment == 0) {
    tensor->data = writable(bytes.data());
  } else {
    misaligned_inputs.add();
    tensor->data = scratch.allocate(bytes.size());
    std::memcpy(tensor->data, bytes.data(), bytes.size());
  }
}

uint64_t misaligned_input_count() { return misaligned_inputs.read(); }

Status tensor_from_raw(const InferInputView& input, ByteSpan raw, Scratch& scratch,
                       Tensor* tensor) {
  std::size_t elements = 0;
  std::size_t size_bytes = 0;
  if (Status status = describe_tensor(input, tensor, &elements, &size_bytes); !status.ok()) {
    return status;
  }
  if (input.has_contents) {
    return invalid_input(input, "expected raw_input_contents or typed contents, got both");
  }
  if (tensor->type == DataType::kString) {
    return place_strings(input, raw, elements, scratch, tensor);
  }
  if (raw.size() != size_bytes) {
    return wrong_count(input, size_bytes, "bytes", *tensor, raw.size());
  }
  if (tensor->type == DataType::kBool) {
    place_bools(raw, scratch, tensor);
  } else {
    place(raw, scratch, tensor);
  }
  return {};
}

}  // namespace pyruntime
