// Where the tensors of a run lie in one piece of memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "memory/tensor.h"

namespace pyruntime {

constexpr std::size_t aligned(std::size_t bytes) {
  constexpr std::size_t kAlignment = 64;
  return (bytes + kAlignment - 1) & ~(kAlignment - 1);
}

// Places tensors one behind the other from `base`; null only measures.
// Returns the bytes they take.
inline std::size_t place(std::vector<Tensor>& tensors, std::byte* base) {
  std::size_t at = 0;
  for (Tensor& tensor : tensors) {
    tensor.data = base == nullptr ? nullptr : base + at;
    at += aligned(tensor.size_bytes());
  }
  return at;
}

// A request may own no rows at all; memory of no bytes has an address too.
inline std::size_t at_least_one(std::size_t bytes) { return std::max<std::size_t>(bytes, 1); }

// Describes `from` in `to`, without keeping its memory alive.
inline void view(const Tensor& from, Tensor* to) {
  to->type = from.type;
  to->device = from.device;
  to->shape = from.shape;
  to->data = from.data;
}

}  // namespace pyruntime
