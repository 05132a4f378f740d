// Of the engine, the names that a request's header mentions.
#pragma once

#include <cstdint>

#include "memory/tensor.h"

namespace pyruntime {

using OutputMask = uint64_t;
inline constexpr OutputMask kAllOutputs = ~OutputMask{0};
inline bool wants(OutputMask, std::size_t) { return true; }

}  // namespace pyruntime
