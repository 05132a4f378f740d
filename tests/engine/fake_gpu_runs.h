// Runs of the fake CUDA provider (onnxruntime_with_gpu.cc) on memory of the fake
// driver: read from the device and written to it on the session's stream, and
// computed by the CPU in between.
//
// As the real provider it replays, where `enable_cuda_graph` is set, what it has
// captured under the run's `gpu_graph_id` on the same thread: at the addresses of
// the capture, whatever is bound. Each run adds a line to the log: "run",
// "capture 3" or "replay 3".
#pragma once

#include <string>

#include "engine/onnx_api.h"

namespace pyruntime::ort {

// Where the functions of the library go that are replaced, by slot.
void replace_runs(const Api& real, const void* const* real_slots, const void** slots);

// options: "key=value key=value", of the CUDA provider.
void note_session(const OrtSession* session, const std::string& options);
void forget_session(const OrtSession* session);

// By onnxruntime_with_gpu.cc.
OrtStatus* fail(int number, const std::string& text);
void log_line(const std::string& line);

}  // namespace pyruntime::ort
