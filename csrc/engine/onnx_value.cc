#include "engine/onnx_value.h"

#include <cstring>

#include "engine/onnx_environment.h"
#include "engine/onnx_signature.h"
#include "engine/string_tensor.h"

namespace pyruntime::ort {
namespace {

OrtStatus* copy_in_strings(const Tensor& tensor, OrtValue** value) {
  OrtStatus* status =
      api().CreateTensorAsOrtValue(default_allocator(), tensor.shape.data(), tensor.shape.rank(),
                                   element_type(DataType::kString), value);
  const std::size_t elements = tensor.size_bytes() / sizeof(StringRef);
  const auto* strings = tensor.data_as<const StringRef>();
  for (std::size_t i = 0; status == nullptr && i < elements; ++i) {
    char* bytes = nullptr;
    status = api().GetResizedStringTensorElementBuffer(*value, i, strings[i].size_bytes, &bytes);
    if (status == nullptr && strings[i].size_bytes != 0) {
      std::memcpy(bytes, strings[i].data, strings[i].size_bytes);
    }
  }
  return status;
}

Status failure(OrtStatus* status, std::string_view call) {
  return {ErrorCode::kEngineError, std::string(call) + ": " + take_message(status)};
}

// The elements first, then the bytes. The library writes offsets, half as wide
// as elements, which are read from the upper half of where the elements go:
// element i ends no later than offset i + 1 begins.
Status copy_out_strings(const OrtValue* value, BufferPool& pool, Tensor* tensor) {
  const auto elements = static_cast<std::size_t>(tensor->shape.element_count().value_or(0));
  std::size_t size_bytes = 0;
  if (OrtStatus* status = api().GetStringTensorDataLength(value, &size_bytes)) {
    return failure(status, "GetStringTensorDataLength");
  }
  Status status;
  Buffer block = pool.allocate(string_block_bytes(elements, size_bytes), &status);
  if (!block) return status;

  static_assert(sizeof(StringRef) == 2 * sizeof(std::size_t));
  std::byte* const offsets = block.data() + elements * sizeof(std::size_t);
  auto* const bytes = reinterpret_cast<char*>(block.data() + elements * sizeof(StringRef));
  if (elements != 0) {
    if (OrtStatus* failed = api().GetStringTensorContent(
            value, bytes, size_bytes, reinterpret_cast<std::size_t*>(offsets), elements)) {
      return failure(failed, "GetStringTensorContent");
    }
  }
  const auto offset_at = [&](std::size_t i) {
    std::size_t offset = size_bytes;
    if (i < elements) std::memcpy(&offset, offsets + i * sizeof(offset), sizeof(offset));
    return offset;
  };
  std::size_t begin = offset_at(0);
  for (std::size_t i = 0; i < elements; ++i) {
    const std::size_t end = offset_at(i + 1);
    const StringRef element{bytes + begin, end - begin};
    std::memcpy(block.data() + i * sizeof(element), &element, sizeof(element));
    begin = end;
  }
  tensor->data = block.data();
  tensor->buffer = std::move(block);
  return {};
}

}  // namespace

OrtStatus* wrap_tensor(const Tensor& tensor, const OrtMemoryInfo* memory, OrtValue** value) {
  if (tensor.type == DataType::kString) return copy_in_strings(tensor, value);
  static std::byte nothing{};  // a tensor without elements may have no memory
  return api().CreateTensorWithDataAsOrtValue(
      memory, tensor.data == nullptr ? &nothing : tensor.data, tensor.size_bytes(),
      tensor.shape.data(), tensor.shape.rank(), element_type(tensor.type), value);
}

Status take_tensor(OrtValue* value, Device device, BufferPool* pool, Tensor* tensor) {
  Value owner(value);
  int number = 0;
  const int64_t* dims = nullptr;
  std::size_t rank = 0;
  if (OrtStatus* status =
          api().GetTensorElementTypeAndShapeDataReference(value, &number, &dims, &rank)) {
    return failure(status, "GetTensorElementTypeAndShapeDataReference");
  }
  const std::optional<DataType> type = data_type(number);
  if (!type || rank > Shape::kMaxRank) {
    return {ErrorCode::kEngineError, "expected a tensor of at most " +
                                         std::to_string(Shape::kMaxRank) +
                                         " dimensions, got element type " + std::to_string(number) +
                                         " and rank " + std::to_string(rank)};
  }
  tensor->type = *type;
  tensor->device = device;
  tensor->shape = Shape(std::span(dims, rank));
  if (*type == DataType::kString) return copy_out_strings(value, *pool, tensor);

  void* data = nullptr;
  if (OrtStatus* status = api().GetTensorMutableData(value, &data)) {
    return failure(status, "GetTensorMutableData");
  }
  static std::byte nothing{};  // `data` says that the output is there, even without elements
  tensor->data = data == nullptr ? &nothing : static_cast<std::byte*>(data);
  tensor->buffer = Buffer::wrap(
      tensor->data, tensor->size_bytes(), device,
      [](void* context) { api().ReleaseValue(static_cast<OrtValue*>(context)); }, owner.release());
  return {};
}

}  // namespace pyruntime::ort
