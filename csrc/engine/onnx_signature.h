// What a loaded model takes and gives, in this project's terms.
#pragma once

#include <optional>
#include <string>

#include "engine/onnx_api.h"
#include "engine/session.h"
#include "memory/tensor.h"

namespace pyruntime::ort {

// The library's number of an element type.
int element_type(DataType type);
std::optional<DataType> data_type(int element_type);

// Throws Unimplemented, naming `model`, the input or output and its type,
// where that is not a tensor of a DataType.
Signature read_signature(const OrtSession* session, const std::string& model);

}  // namespace pyruntime::ort
