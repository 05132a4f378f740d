#include "engine/string_tensor.h"

#include <cstring>
#include <new>

namespace pyruntime {

Buffer copy_strings(std::span<const StringRef> strings, BufferPool& pool, Status* status) {
  std::size_t bytes = 0;
  for (const StringRef& string : strings) bytes += string.size_bytes;
  Buffer block = pool.allocate(string_block_bytes(strings.size(), bytes), status);
  if (!block) return block;

  auto* element = reinterpret_cast<StringRef*>(block.data());
  auto* tail = reinterpret_cast<char*>(element + strings.size());
  for (const StringRef& string : strings) {
    new (element++) StringRef{tail, string.size_bytes};
    if (string.size_bytes != 0) std::memcpy(tail, string.data, string.size_bytes);
    tail += string.size_bytes;
  }
  return block;
}

}  // namespace pyruntime
