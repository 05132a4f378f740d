// What went wrong, as a value (Status) or thrown (Error).
//
// Loading and validating throw. After a request is accepted, failure travels
// as a Status to whoever waits, since a throw on a worker reaches no caller.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
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

// One word, null where nothing failed: it passes through a dozen hands on the way of a request.
class [[nodiscard]] Status {
 public:
  Status() = default;
  // code: other than kOk.
  Status(ErrorCode code, std::string message)
      : failure_(std::make_unique<Failure>(Failure{code, std::move(message)})) {}

  Status(const Status& other)
      : failure_(other.ok() ? nullptr : std::make_unique<Failure>(*other.failure_)) {}
  Status(Status&&) noexcept = default;
  Status& operator=(const Status& other) {
    if (!ok() || !other.ok()) *this = Status(other);
    return *this;
  }
  Status& operator=(Status&&) noexcept = default;
  ~Status() = default;

  bool ok() const { return failure_ == nullptr; }
  ErrorCode code() const { return ok() ? ErrorCode::kOk : failure_->code; }
  const std::string& message() const { return ok() ? no_message() : failure_->message; }

  // "InvalidInput: input 'ids': expected ..."
  std::string to_string() const;

  // Throws Error unless ok.
  void throw_if_failed() const;

 private:
  struct Failure {
    ErrorCode code;
    std::string message;
  };
  static const std::string& no_message();

  std::unique_ptr<Failure> failure_;
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
