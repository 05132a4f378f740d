#include "serving/shadow_job.h"

#include <cstring>
#include <new>

#include "schedule/placement.h"

namespace pyruntime {
namespace {

constexpr std::size_t kAlignment = kCacheLine;

std::span<const StringRef> strings_of(const Tensor& tensor) {
  return {tensor.data_as<StringRef>(), tensor.size_bytes() / sizeof(StringRef)};
}

}  // namespace

void TensorCopies::Free::operator()(std::byte* memory) const noexcept {
  ::operator delete(memory, std::align_val_t(kAlignment));
}

std::size_t TensorCopies::size_bytes(std::span<const Tensor> tensors) {
  std::size_t sum = 0;
  for (const Tensor& tensor : tensors) {
    if (tensor.data == nullptr) continue;
    std::size_t size = tensor.size_bytes();
    if (tensor.type == DataType::kString) {
      for (const StringRef& string : strings_of(tensor)) size += string.size_bytes;
    }
    sum += aligned(size);
  }
  return sum;
}

void TensorCopies::copy(std::span<const Tensor> tensors, std::size_t size_bytes) {
  if (size_bytes > capacity_bytes_ || memory_ == nullptr) {
    capacity_bytes_ = 0;
    memory_.reset();
    const std::size_t capacity = aligned(size_bytes + 1);
    memory_.reset(static_cast<std::byte*>(::operator new(capacity, std::align_val_t(kAlignment))));
    capacity_bytes_ = capacity;
  }
  tensors_.resize(tensors.size());
  std::byte* at = memory_.get();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& from = tensors[i];
    Tensor& to = tensors_[i];
    to.data = nullptr;
    if (from.data == nullptr) continue;
    to.type = from.type;
    to.shape = from.shape;
    to.data = at;
    std::size_t size = from.size_bytes();
    if (from.type == DataType::kString) {
      auto* element = reinterpret_cast<StringRef*>(at);
      auto* tail = reinterpret_cast<char*>(at + size);
      for (const StringRef& string : strings_of(from)) {
        new (element++) StringRef{tail, string.size_bytes};
        if (string.size_bytes != 0) std::memcpy(tail, string.data, string.size_bytes);
        tail += string.size_bytes;
        size += string.size_bytes;
      }
    } else if (size != 0) {
      std::memcpy(at, from.data, size);
    }
    at += aligned(size);
  }
}

void TensorCopies::shrink(std::size_t kept_bytes) {
  if (capacity_bytes_ <= kept_bytes) return;
  for (Tensor& tensor : tensors_) tensor.data = nullptr;
  memory_.reset();
  capacity_bytes_ = 0;
}

}  // namespace pyruntime
