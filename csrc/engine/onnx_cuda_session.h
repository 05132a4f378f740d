// A session of ONNX Runtime whose inputs and outputs lie on a GPU.
//
// A run is given to the session's stream and not waited for. The library knows
// one such stream a session, so that each instance has a session of its own.
#pragma once

#include <memory>

#include "engine/session.h"

namespace pyruntime::ort {

// Throws as EngineEntry::load(); InvalidInput where graphs are to be captured of
// a model that cannot be, with the reason.
std::unique_ptr<pyruntime::Session> load_cuda_session(const ModelSource& source,
                                                      const pyruntime::SessionOptions& options);

}  // namespace pyruntime::ort
