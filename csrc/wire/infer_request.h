// Views of a serialised inference.ModelInferRequest and of its parts.
//
// Nothing is copied or kept in lists, so that what a request costs in memory
// does not depend on how many parts it says it has: parts are walked where
// they lie. All views are valid as long as the request's bytes.
//
// Threads: one user at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "memory/tensor.h"
#include "wire/protobuf_reader.h"

namespace pyruntime {

// Numbers of the fields, from proto/inference.proto.
struct RequestField {
  static constexpr uint32_t kModelName = 1;
  static constexpr uint32_t kModelVersion = 2;
  static constexpr uint32_t kId = 3;
  static constexpr uint32_t kParameters = 4;
  static constexpr uint32_t kInputs = 5;
  static constexpr uint32_t kOutputs = 6;
  static constexpr uint32_t kRawInputContents = 7;
};
inline constexpr uint32_t kInputParameters = 4;
inline constexpr uint32_t kInputContents = 5;
inline constexpr uint32_t kOutputParameters = 2;

// Names go into error messages, and those into HTTP/2 headers.
inline constexpr std::size_t kMaxNameBytes = 1024;

// The request itself. Parts are counted and left unread.
struct InferRequestView {
  ByteSpan message;
  std::string_view model_name;
  std::string_view model_version;
  std::string_view id;
  std::size_t input_count = 0;
  std::size_t raw_count = 0;
  bool has_parameters = false;
  bool has_outputs = false;

  Status parse(ByteSpan bytes);
};

// The occurrences of a repeated bytes or message field, in their order. The
// message must have been read to its end before without a failure.
class Occurrences {
 public:
  Occurrences(ByteSpan message, uint32_t field)
      : reader_(message), tag_(tag_of(field, WireType::kBytes)) {}

  bool next(ByteSpan* value) {
    while (reader_.next()) {
      if (reader_.tag() == tag_) {
        *value = reader_.bytes();
        return true;
      }
      reader_.skip();
    }
    return false;
  }

 private:
  ProtobufReader reader_;
  const uint32_t tag_;
};

// An entry of a map<string, InferParameter>.
struct InferParameterView {
  enum class Kind : uint8_t { kNone, kBool, kInt64, kString, kDouble, kUint64 };

  std::string_view name;
  Kind kind = Kind::kNone;
  uint64_t number = 0;    // of kBool, kInt64 (two's complement) and kUint64
  double real = 0;        // of kDouble
  std::string_view text;  // of kString

  Status parse(ByteSpan entry);
  // Has a value other than its type's zero.
  bool is_set() const;
  // The value, if it is a number without sign or fraction.
  bool is_unsigned(uint64_t* value) const;
};

// One of `inputs`.
struct InferInputView {
  ByteSpan message;
  std::string_view name;
  std::string_view datatype;
  std::array<int64_t, Shape::kMaxRank> dims;
  std::size_t rank = 0;  // as received, perhaps above Shape::kMaxRank
  bool has_parameters = false;
  bool has_contents = false;  // they are there, and not empty

  // index: for errors that come before a name.
  Status parse(ByteSpan input, std::size_t index);
};

// One of `outputs`.
struct InferRequestedOutputView {
  ByteSpan message;
  std::string_view name;
  bool has_parameters = false;

  Status parse(ByteSpan output, std::size_t index);
};

}  // namespace pyruntime
