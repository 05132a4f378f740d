// What ONNX Runtime says of where a session's nodes run.
#pragma once

#include "engine/onnx_api.h"
#include "engine/placement.h"

namespace pyruntime::ort {

// The session option with which a session remembers it.
inline constexpr const char* kRecordPlacement = "session.record_ep_graph_assignment_info";
// The one with which nodes that only the CPU's provider takes end the load.
inline constexpr const char* kDisableCpuFallback = "session.disable_cpu_ep_fallback";

// Of a session that was made with kRecordPlacement.
Placement read_placement(const OrtSession* session);

}  // namespace pyruntime::ort
