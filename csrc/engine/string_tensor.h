// String tensors that own their bytes: one block holds the elements and,
// behind them, what they point to.
#pragma once

#include <span>

#include "base/error.h"
#include "memory/buffer_pool.h"
#include "memory/tensor.h"

namespace pyruntime {

// What a block for `elements` strings of `bytes` bytes together has to hold.
inline std::size_t string_block_bytes(std::size_t elements, std::size_t bytes) {
  return elements * sizeof(StringRef) + bytes;
}

// Copies `strings` into one block of `pool`. A null Buffer, with the reason in
// `*status`, when there is no memory.
Buffer copy_strings(std::span<const StringRef> strings, BufferPool& pool, Status* status);

}  // namespace pyruntime
