// What went wrong, as a value (Status) or thrown (Error).
//
// Loading and validating throw. After a request is accepted, failure travels
// as a Status to whoever waits, since a throw on a worker reaches no caller.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace pyruntime {

// Maps once to a Python exception and once to a gRPC status.
enum class ErrorCode : uint8_t {
  kOk = 0,
  kInvalidInput = 1,      // the caller's mistake: name, dtype, shape, bytes
  kModelNotFound = 2,     // no such model, version or label
  kOverloaded = 3,        // a queue or a memory budget is full; try later
  kDeadlineExceeded = 4,  // the request's deadline passed before it ran
  kCancelled = 5,         // the caller gave up
  kUnavailable = 6,       // not loaded yet, draining or closed
  kUnimplemented = 7,     // a feature that this build does not have
  kEngineError = 8,       // the model or its engine failed
};

// "InvalidInput", "ModelNotFound", ...: the names of the Python exceptions.
std::string_view error_code_name(ErrorCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == ErrorCode::kOk; }
  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }

  // "InvalidInput: input 'ids': expected ..."
  std::string to_string() const;

  // Throws Error unless ok.
  void throw_if_failed() const;

 private:
  ErrorCode code_ = ErrorCode::kOk;
  std::string message_;
};

class Error : public std::exception {
 public:
  explicit Error(Status status) : status_(std::move(status)) {}
  Error(ErrorCode code, std::string message) : status_(code, std::move(message)) {}

  const char* what() const noexcept override { return status_.message().c_str(); }
  const Status& status() const { return status_; }
  ErrorCode code() const { return status_.code(); }

 private:
  Status status_;
};

inline void Status::throw_if_failed() const {
  if (!ok()) throw Error(*this);
}

}  // namespace pyruntime
