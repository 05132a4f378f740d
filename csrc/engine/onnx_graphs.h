// CUDA graphs of ONNX Runtime: which models can be captured.
//
// What the library itself asks of them (its documentation of the CUDA provider's
// `enable_cuda_graph`): all nodes on the CUDA provider, no control flow, tensors
// alone, the same shapes and addresses at each replay.
#pragma once

#include "engine/placement.h"
#include "engine/session.h"

namespace pyruntime::ort {

// Throws InvalidInput with the reason.
void require_capturable(const Signature& signature, const Placement& placement);

// `options` with what the providers of GPUs are to be told: that they run on `stream`, and whether
// they capture. Throws InvalidInput where the user has told them otherwise.
pyruntime::SessionOptions on_stream(pyruntime::SessionOptions options, const void* stream);

}  // namespace pyruntime::ort
