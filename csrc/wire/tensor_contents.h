// The elements of an input tensor: from their form on the wire to memory that
// an engine reads. Here: what is common, and raw contents.
//
// Contents are used where they lie, with four exceptions that take scratch
// memory: those not aligned to their element are copied (counted); strings get
// an array of StringRef that points to them; bytes of a bool other than 0 and
// 1 become 1, as NumPy and Triton take them; nothing at all gets an address.
//
// Memory is taken only once the number of elements is known to be the shape's:
// however large that says it is, it is in proportion to what was received.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "memory/tensor.h"
#include "wire/infer_request.h"
#include "wire/scratch.h"

namespace pyruntime {

// Sets `*tensor` from an input and its element of raw_input_contents.
// InvalidInput names the input, what was expected and what came.
Status tensor_from_raw(const InferInputView& input, ByteSpan raw, Scratch& scratch, Tensor* tensor);

// Inputs that were copied since they were not aligned, in this process.
uint64_t misaligned_input_count();

// Sets type and shape, and how many elements and bytes those ask for.
Status describe_tensor(const InferInputView& input, Tensor* tensor, std::size_t* elements,
                       std::size_t* size_bytes);

// Sets data to contiguous elements: these, or a copy if they are not aligned.
void place(ByteSpan elements, Scratch& scratch, Tensor* tensor);

// "input 'ids': <what>"
Status invalid_input(const InferInputView& input, std::string_view what);
// "input 'ids': expected 512 bytes for int64[4, 16], got 8"
Status wrong_count(const InferInputView& input, std::size_t expected, std::string_view unit,
                   const Tensor& tensor, std::size_t got);

}  // namespace pyruntime
