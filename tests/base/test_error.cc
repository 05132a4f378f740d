#include <string>

#include <doctest/doctest.h>

#include "base/error.h"

using pyruntime::Error;
using pyruntime::ErrorCode;
using pyruntime::Status;

TEST_CASE("a status is good unless told otherwise") {
  const Status good;
  CHECK(good.ok());
  CHECK(good.to_string() == "Ok");
  CHECK_NOTHROW(good.throw_if_failed());
}

TEST_CASE("a failed status throws itself") {
  const Status failed(ErrorCode::kInvalidInput, "input 'x': expected 1, got 2");
  CHECK(failed.to_string() == "InvalidInput: input 'x': expected 1, got 2");
  try {
    failed.throw_if_failed();
    FAIL("expected an Error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kInvalidInput);
    CHECK(error.what() == std::string("input 'x': expected 1, got 2"));
  }
}

TEST_CASE("every code has a name of its own") {
  for (int code = 0; code <= static_cast<int>(ErrorCode::kEngineError); ++code) {
    CHECK(error_code_name(static_cast<ErrorCode>(code)) != "Unknown");
  }
}
