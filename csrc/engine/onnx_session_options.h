// This project's session options, checked and told to ONNX Runtime.
#pragma once

#include "engine/onnx_api.h"
#include "engine/session.h"

namespace pyruntime::ort {

// Throws InvalidInput (a value out of range), Unavailable (a device or provider
// that is absent: names it, those present and what to install), Unimplemented
// (a device that this engine cannot use yet) or EngineError (an option that the
// library refuses).
SessionOptions make_session_options(const pyruntime::SessionOptions& options,
                                    const ModelSource& source);

}  // namespace pyruntime::ort
