// Tensors of this project as values of ONNX Runtime, and back.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <utility>

#include "base/error.h"
#include "engine/onnx_api.h"
#include "memory/buffer_pool.h"
#include "memory/tensor.h"

namespace pyruntime::ort {

// An array on the stack for as many tensors as models usually have, else on
// the heap. Starts as nullptrs.
template <typename T>
class FewPointers {
 public:
  explicit FewPointers(std::size_t count) : count_(count) {
    if (count > kInline) more_ = std::make_unique<T*[]>(count);
    data_ = more_ ? more_.get() : few_.data();
    std::fill_n(data_, count, nullptr);
  }
  FewPointers(const FewPointers&) = delete;
  FewPointers& operator=(const FewPointers&) = delete;

  std::size_t size() const { return count_; }
  T** data() { return data_; }
  T*& operator[](std::size_t i) { return data_[i]; }

 private:
  static constexpr std::size_t kInline = 32;
  const std::size_t count_;
  std::array<T*, kInline> few_;  // the first count_ are set
  std::unique_ptr<T*[]> more_;
  T** data_;
};

// The values of one run; releases those it still holds.
class Values : public FewPointers<OrtValue> {
 public:
  using FewPointers::FewPointers;
  ~Values() {
    for (std::size_t i = 0; i < size(); ++i) {
      if ((*this)[i] != nullptr) api().ReleaseValue((*this)[i]);
    }
  }
  OrtValue* take(std::size_t i) { return std::exchange((*this)[i], nullptr); }
};

// A value over the tensor's own memory, which must outlive it; strings are
// copied into the value. The library's own failure, or nullptr.
// memory: where the tensor lies, unless it is of strings.
OrtStatus* wrap_tensor(const Tensor& tensor, const OrtMemoryInfo* memory, OrtValue** value);

// Gives `tensor` what `value` holds: its memory, on `device`, or for strings a
// copy in one block of `pool`. Takes over `value`.
Status take_tensor(OrtValue* value, Device device, BufferPool* pool, Tensor* tensor);

}  // namespace pyruntime::ort
