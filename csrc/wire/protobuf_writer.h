// Writes protobuf fields into memory whose size was worked out before.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "wire/protobuf_reader.h"

namespace pyruntime {

constexpr std::size_t varint_size(uint64_t value) {
  return (static_cast<std::size_t>(std::bit_width(value | 1)) + 6) / 7;
}

// A length-delimited field with its tag and length.
constexpr std::size_t bytes_field_size(uint32_t field, std::size_t size) {
  return varint_size(tag_of(field, WireType::kBytes)) + varint_size(size) + size;
}

// Threads: one user at a time. The caller sees to it that there is room.
class ProtobufWriter {
 public:
  explicit ProtobufWriter(std::byte* at) : at_(at) {}

  void varint(uint64_t value) {
    while (value >= 0x80) {
      *at_++ = static_cast<std::byte>(value | 0x80);
      value >>= 7;
    }
    *at_++ = static_cast<std::byte>(value);
  }

  // Of a length-delimited field whose `size` bytes are written next.
  void open(uint32_t field, std::size_t size) {
    varint(tag_of(field, WireType::kBytes));
    varint(size);
  }

  void raw(const void* data, std::size_t size) {
    if (size == 0) return;  // data may be null
    std::memcpy(at_, data, size);
    at_ += size;
  }

  void bytes_field(uint32_t field, std::string_view value) {
    open(field, value.size());
    raw(value.data(), value.size());
  }

  std::byte* at() const { return at_; }

 private:
  std::byte* at_;
};

}  // namespace pyruntime
