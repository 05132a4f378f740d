#include "wire/shared_tensors.h"

#include <cstring>
#include <string>
#include <utility>

#include "wire/tensor_contents.h"
#include "wire/text.h"

namespace pyruntime {

Status find_shared(const SharedMemory* shared, const SharedPlace& place, Tensor* tensor) {
  if (shared == nullptr) {
    return {ErrorCode::kUnimplemented, "parameter 'shared_memory_region' is not implemented"};
  }
  return shared->find(place.region, place.offset, place.size_bytes, tensor);
}

Status tensor_from_shared(const InferInputView& input, const SharedPlace& place,
                          const SharedMemory* shared, Scratch& scratch, Tensor* tensor) {
  Tensor found;
  if (Status status = find_shared(shared, place, &found); !status.ok()) {
    return {status.code(), "input " + quoted(input.name) + ": " + status.message()};
  }
  const bool is_string = data_type_from_protocol_name(input.datatype) == DataType::kString;
  if (found.device == Device{}) {
    ByteSpan contents(found.data, place.size_bytes);
    if (is_string && !contents.empty()) {
      // Lengths that change after they were checked would lead out of it.
      std::byte* const copy = scratch.allocate(contents.size());
      std::memcpy(copy, contents.data(), contents.size());
      contents = ByteSpan(copy, contents.size());
    }
    Status status = tensor_from_raw(input, contents, scratch, tensor);
    tensor->buffer = std::move(found.buffer);
    return status;
  }
  std::size_t elements = 0;
  std::size_t size_bytes = 0;
  if (Status status = describe_tensor(input, tensor, &elements, &size_bytes); !status.ok()) {
    return status;
  }
  if (is_string) return invalid_input(input, "expected strings in memory of the host");
  if (input.has_contents) {
    return invalid_input(input, "expected shared memory or contents, got both");
  }
  if (size_bytes != place.size_bytes) {
    return wrong_count(input, size_bytes, "bytes", *tensor, place.size_bytes);
  }
  tensor->data = found.data;
  tensor->device = found.device;
  tensor->buffer = std::move(found.buffer);
  return {};
}

}  // namespace pyruntime
