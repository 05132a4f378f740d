// Tensors of requests in regions of shared memory.
#pragma once

#include "base/error.h"
#include "memory/tensor.h"
#include "wire/infer_request.h"
#include "wire/request_options.h"
#include "wire/scratch.h"
#include "wire/shared_memory.h"

namespace pyruntime {

// Sets data, buffer and device of `tensor`. `shared` may be null: nothing is shared then.
Status find_shared(const SharedMemory* shared, const SharedPlace& place, Tensor* tensor);

// Sets `*tensor` from an input that lies at `place`: used there as raw contents are used in a
// request's bytes, but strings are copied once, since clients may write to them at any time.
// ModelNotFound and InvalidInput name the input.
Status tensor_from_shared(const InferInputView& input, const SharedPlace& place,
                          const SharedMemory* shared, Scratch& scratch, Tensor* tensor);

}  // namespace pyruntime
