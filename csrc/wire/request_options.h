// What a ModelInferRequest says besides its tensors: version and parameters.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "schedule/request.h"
#include "wire/infer_request.h"

namespace pyruntime {

// Nothing is kLatest; anything but a number from 1 on is InvalidInput.
Status parse_model_version(std::string_view text, int64_t* version);

// Of the request as a whole.
struct RequestParameters {
  std::optional<Priority> priority;
  TimePoint deadline = kNever;
  std::string_view route_key{};  // within the request's bytes
  std::string_view label{};      // of a version
};

// Unimplemented for parameters of sequences that say anything.
Status read_parameters(const InferRequestView& view, RequestParameters* parameters);

// Unimplemented for parameters of shared memory and classification that say
// anything. kind: "input" or "output"; field: of the tensor's parameters.
Status check_tensor_parameters(ByteSpan tensor, uint32_t field, std::string_view kind,
                               std::string_view name);

}  // namespace pyruntime
