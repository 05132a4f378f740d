#include "wire/protobuf_reader.h"

#include <string>

namespace pyruntime {

Status malformed(std::string_view where, const ProtobufReader& reader) {
  return {ErrorCode::kInvalidInput, std::string(where) + ": malformed protobuf: " + reader.error() +
                                        " near byte " + std::to_string(reader.error_offset())};
}

}  // namespace pyruntime
