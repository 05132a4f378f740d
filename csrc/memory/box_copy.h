// Copies between row-major arrays of different sizes: the corner that both have.
#pragma once

#include <cstddef>

#include "memory/tensor.h"

namespace pyruntime {

// Calls visit(from, to, bytes), offsets in bytes, for each piece that lies together in both: of the
// elements whose indices lie in `box`, from an array of shape `from_shape` to one of shape
// `to_shape`. All three have one rank, and `box` exceeds neither.
template <typename Visit>
void visit_box(const Shape& from_shape, const Shape& to_shape, const Shape& box,
               std::size_t element_bytes, Visit visit) {
  for (const int64_t dim : box.dims()) {
    if (dim == 0) return;
  }
  std::size_t whole = box.rank();  // dimensions from it on differ nowhere
  std::size_t whole_bytes = element_bytes;
  while (whole > 0 && from_shape[whole - 1] == box[whole - 1] &&
         to_shape[whole - 1] == box[whole - 1]) {
    whole_bytes *= static_cast<std::size_t>(box[--whole]);
  }
  // Of `axis` and those after it.
  const auto walk = [&](const auto& self, std::size_t from, std::size_t to,
                        std::size_t axis) -> void {
    if (axis + 1 >= whole) {
      const auto count = axis < whole ? static_cast<std::size_t>(box[axis]) : 1;
      visit(from, to, count * whole_bytes);
      return;
    }
    std::size_t from_stride = whole_bytes;
    std::size_t to_stride = whole_bytes;
    for (std::size_t i = axis + 1; i < whole; ++i) {
      from_stride *= static_cast<std::size_t>(from_shape[i]);
      to_stride *= static_cast<std::size_t>(to_shape[i]);
    }
    for (int64_t i = 0; i < box[axis]; ++i) {
      self(self, from, to, axis + 1);
      from += from_stride;
      to += to_stride;
    }
  };
  walk(walk, 0, 0, 0);
}

// Copies those elements.
void copy_box(const std::byte* from, const Shape& from_shape, std::byte* to, const Shape& to_shape,
              const Shape& box, std::size_t element_bytes);

}  // namespace pyruntime
