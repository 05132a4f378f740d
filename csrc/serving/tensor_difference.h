// How far one tensor is from another.
#pragma once

#include <cstdint>
#include <string>

#include "memory/tensor.h"
#include "serving/route_spec.h"

namespace pyruntime {

// Largest differences are of numbers only, infinite where one side is no number.
struct Difference {
  double max_absolute = 0;
  double max_relative = 0;  // to the expected number
  int64_t beyond = 0;       // elements beyond the tolerance
  std::string first;        // of those, or why the two cannot be compared; empty: there is none

  bool is_within() const { return first.empty(); }
};

// Both in memory that the host reads. Type and shape must agree; NaN equals NaN,
// and strings agree if they are the same.
Difference difference(const Tensor& expected, const Tensor& actual, const Tolerance& tolerance);

}  // namespace pyruntime
