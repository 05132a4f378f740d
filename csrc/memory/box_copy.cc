#include "memory/box_copy.h"

#include <cstring>

namespace pyruntime {

void copy_box(const std::byte* from, const Shape& from_shape, std::byte* to, const Shape& to_shape,
              const Shape& box, std::size_t element_bytes) {
  visit_box(from_shape, to_shape, box, element_bytes,
            [&](std::size_t from_at, std::size_t to_at, std::size_t bytes) {
              std::memcpy(to + to_at, from + from_at, bytes);
            });
}

}  // namespace pyruntime
