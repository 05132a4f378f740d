// A session of ONNX Runtime, made from this project's options.
#pragma once

#include <string>

#include "engine/onnx_api.h"
#include "engine/session.h"

namespace pyruntime::ort {

// label: names the model in errors. Throws as EngineEntry::load(); where nodes
// would have to run on the CPU though that is not among the providers, they are
// named.
Session create_session(const ModelSource& source, const pyruntime::SessionOptions& options,
                       const std::string& label);

}  // namespace pyruntime::ort
