// Copies between row-major arrays of different sizes: the corner that both have.
#pragma once

#include <cstddef>

#include "memory/tensor.h"

namespace pyruntime {

// Copies the elements whose indices lie in `box` from an array of shape `from_shape` to one of
// shape `to_shape`. All three have one rank, and `box` exceeds neither.
void copy_box(const std::byte* from, const Shape& from_shape, std::byte* to, const Shape& to_shape,
              const Shape& box, std::size_t element_bytes);

}  // namespace pyruntime
