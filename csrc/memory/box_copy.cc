#include "memory/box_copy.h"

#include <cstring>

namespace pyruntime {
namespace {

struct Copier {
  const Shape& from_shape;
  const Shape& to_shape;
  const Shape& box;
  std::size_t whole;        // dimensions before it differ somewhere, those from it on do not
  std::size_t whole_bytes;  // of the elements of one index of the dimensions before `whole`

  // Of `axis` and those after it; `from_bytes` and `to_bytes` are those of one index of `axis`.
  void copy(const std::byte* from, std::byte* to, std::size_t axis) const {
    if (axis + 1 >= whole) {
      const auto count = axis < whole ? static_cast<std::size_t>(box[axis]) : 1;
      std::memcpy(to, from, count * whole_bytes);
      return;
    }
    std::size_t from_stride = whole_bytes;
    std::size_t to_stride = whole_bytes;
    for (std::size_t i = axis + 1; i < whole; ++i) {
      from_stride *= static_cast<std::size_t>(from_shape[i]);
      to_stride *= static_cast<std::size_t>(to_shape[i]);
    }
    for (int64_t i = 0; i < box[axis]; ++i) {
      copy(from, to, axis + 1);
      from += from_stride;
      to += to_stride;
    }
  }
};

}  // namespace

void copy_box(const std::byte* from, const Shape& from_shape, std::byte* to, const Shape& to_shape,
              const Shape& box, std::size_t element_bytes) {
  for (const int64_t dim : box.dims()) {
    if (dim == 0) return;
  }
  // What lies together in both is copied together.
  std::size_t whole = box.rank();
  std::size_t whole_bytes = element_bytes;
  while (whole > 0 && from_shape[whole - 1] == box[whole - 1] &&
         to_shape[whole - 1] == box[whole - 1]) {
    whole_bytes *= static_cast<std::size_t>(box[--whole]);
  }
  Copier{from_shape, to_shape, box, whole, whole_bytes}.copy(from, to, 0);
}

}  // namespace pyruntime
