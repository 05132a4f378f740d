#include "wire/request_options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <string>

#include "serving/router.h"
#include "wire/text.h"

namespace pyruntime {
namespace {

constexpr std::array<std::string_view, 3> kSequenceParameters{"sequence_id", "sequence_start",
                                                              "sequence_end"};
constexpr std::array<std::string_view, 1> kTensorParameters{"classification"};

Status refuse(std::span<const std::string_view> names, const InferParameterView& parameter) {
  if (std::find(names.begin(), names.end(), parameter.name) == names.end()) return {};
  if (!parameter.is_set()) return {};
  return {ErrorCode::kUnimplemented,
          "parameter '" + std::string(parameter.name) + "' is not implemented"};
}

Status unsigned_parameter(const InferParameterView& parameter, uint64_t* value) {
  if (parameter.is_unsigned(value)) return {};
  return {ErrorCode::kInvalidInput, "parameter '" + std::string(parameter.name) +
                                        "': expected an integer that is not negative, got " +
                                        (parameter.kind == InferParameterView::Kind::kInt64
                                             ? std::to_string(static_cast<int64_t>(*value))
                                             : std::string("a value of another type"))};
}

Status text_parameter(const InferParameterView& parameter, std::string_view* value) {
  if (parameter.kind != InferParameterView::Kind::kString) {
    return {ErrorCode::kInvalidInput, "parameter '" + std::string(parameter.name) +
                                          "': expected a string, got a value of another type"};
  }
  *value = parameter.text;
  return {};
}

// 0: the model's own.
std::optional<Priority> priority_of(uint64_t level) {
  if (level == 0) return {};
  if (level == 1) return Priority::kHigh;
  return level >= 3 ? Priority::kLow : Priority::kNormal;
}

TimePoint deadline_after(uint64_t timeout_us) {
  if (timeout_us == 0) return kNever;
  const TimePoint now = SteadyClock::instance().now();
  const auto left = std::chrono::duration_cast<std::chrono::microseconds>(kNever - now);
  if (timeout_us >= static_cast<uint64_t>(left.count())) return kNever;
  return now + std::chrono::microseconds(timeout_us);
}

}  // namespace

Status parse_model_version(std::string_view text, int64_t* version) {
  *version = kLatest;
  if (text.empty()) return {};
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const auto [position, error] = std::from_chars(begin, end, *version);
  if (error == std::errc() && position == end && *version >= 1) return {};
  return {
      ErrorCode::kInvalidInput,
      "model_version: expected a number from 1 on, or nothing for the latest, got " + quoted(text)};
}

Status read_parameters(const InferRequestView& view, RequestParameters* parameters) {
  if (!view.has_parameters) return {};
  Occurrences entries(view.message, RequestField::kParameters);
  InferParameterView parameter;
  for (ByteSpan entry; entries.next(&entry);) {
    if (Status parsed = parameter.parse(entry); !parsed.ok()) return parsed;
    uint64_t value = 0;
    if (parameter.name == "priority") {
      if (Status read = unsigned_parameter(parameter, &value); !read.ok()) return read;
      parameters->priority = priority_of(value);
    } else if (parameter.name == "timeout") {
      if (Status read = unsigned_parameter(parameter, &value); !read.ok()) return read;
      parameters->deadline = deadline_after(value);
    } else if (parameter.name == "route_key") {
      Status read = text_parameter(parameter, &parameters->route_key);
      if (!read.ok()) return read;
    } else if (parameter.name == "label") {
      Status read = text_parameter(parameter, &parameters->label);
      if (!read.ok()) return read;
    } else {
      Status refused = refuse(kSequenceParameters, parameter);
      if (!refused.ok()) return refused;
    }
  }
  if (parameters->label.empty() || view.model_version.empty()) return {};
  return {ErrorCode::kInvalidInput,
          "expected a model_version or the parameter 'label', got both: " +
              quoted(view.model_version) + " and " + quoted(parameters->label)};
}

Status read_tensor_parameters(ByteSpan tensor, uint32_t field, std::string_view kind,
                              std::string_view name, SharedPlace* place) {
  const auto named = [&](const Status& status) -> Status {
    return {status.code(), std::string(kind) + " " + quoted(name) + ": " + status.message()};
  };
  *place = {};
  bool has_size = false;
  Occurrences entries(tensor, field);
  InferParameterView parameter;
  for (ByteSpan entry; entries.next(&entry);) {
    if (Status status = parameter.parse(entry); !status.ok()) return status;
    Status status;
    if (parameter.name == "shared_memory_region") {
      status = text_parameter(parameter, &place->region);
    } else if (parameter.name == "shared_memory_byte_size") {
      status = unsigned_parameter(parameter, &place->size_bytes);
      has_size = true;
    } else if (parameter.name == "shared_memory_offset") {
      status = unsigned_parameter(parameter, &place->offset);
    } else {
      status = refuse(kTensorParameters, parameter);
    }
    if (!status.ok()) return named(status);
  }
  if (has_size == place->is_given()) return {};
  return named({ErrorCode::kInvalidInput,
                "expected the parameters 'shared_memory_region' and 'shared_memory_byte_size' "
                "together, got one of them"});
}

}  // namespace pyruntime
