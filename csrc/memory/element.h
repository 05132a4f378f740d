// One element of a tensor from a number.
#pragma once

#include <cstddef>

#include "memory/tensor.h"

namespace pyruntime {

// Writes `value` as one element of `type`, floats rounded. False for what the type does not have:
// fractions and sizes that do not fit an integer, numbers other than 0 and 1 as bool, any string.
bool write_element(DataType type, double value, std::byte* to);

}  // namespace pyruntime
