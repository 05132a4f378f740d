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

// Where a tensor lies that is not in the message.
struct SharedPlace {
  std::string_view region{};  // within the request's bytes; empty: in the message
  uint64_t size_bytes = 0;
  uint64_t offset = 0;

  bool is_given() const { return !region.empty(); }
};

// Of a tensor: InvalidInput for a place that is not whole, Unimplemented for
// classification that says anything. kind: "input" or "output"; field: of the
// tensor's parameters.
Status read_tensor_parameters(ByteSpan tensor, uint32_t field, std::string_view kind,
                              std::string_view name, SharedPlace* place);

}  // namespace pyruntime
