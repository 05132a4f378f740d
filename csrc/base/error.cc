#include "base/error.h"

namespace pyruntime {

std::string_view error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kOk:
      return "Ok";
    case ErrorCode::kInvalidInput:
      return "InvalidInput";
    case ErrorCode::kModelNotFound:
      return "ModelNotFound";
    case ErrorCode::kOverloaded:
      return "Overloaded";
    case ErrorCode::kDeadlineExceeded:
      return "DeadlineExceeded";
    case ErrorCode::kCancelled:
      return "Cancelled";
    case ErrorCode::kUnavailable:
      return "Unavailable";
    case ErrorCode::kUnimplemented:
      return "Unimplemented";
    case ErrorCode::kEngineError:
      return "EngineError";
  }
  return "Unknown";
}

const std::string& Status::no_message() {
  static const std::string empty;
  return empty;
}

std::string Status::to_string() const {
  std::string text(error_code_name(code()));
  if (!message().empty()) text.append(": ").append(message());
  return text;
}

}  // namespace pyruntime
