// Typed contents of an input: elements as protobuf numbers.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "memory/tensor.h"
#include "wire/infer_request.h"
#include "wire/scratch.h"

namespace pyruntime {

// Sets `*tensor` from the input's own contents; floats that lie together and
// aligned are used there. InvalidInput names the input, what was expected and
// what came; an 8- or 16-bit integer out of its range is such a case.
Status tensor_from_typed(const InferInputView& input, Scratch& scratch, Tensor* tensor);

// FP16 and BF16 have no typed contents.
inline bool is_raw_only(DataType type) {
  return type == DataType::kFloat16 || type == DataType::kBfloat16;
}

// The field of InferTensorContents for a type that is not raw only.
uint32_t contents_field_of(DataType type);

}  // namespace pyruntime
