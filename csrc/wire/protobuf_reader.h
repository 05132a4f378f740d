// Reads the fields of one serialised protobuf message where it lies: no copy,
// no allocation, no byte outside it.
//
//   ProtobufReader reader(message);
//   while (reader.next()) {
//     switch (reader.tag()) {
//       case tag_of(1, WireType::kBytes): name = reader.text(); break;
//       default: reader.skip();
//     }
//   }
//   if (!reader.ok()) return malformed("ModelInferRequest", reader);
//
// A known field of another wire type falls to skip(), as an unknown one does.
// Groups are refused. Nothing recurses: an embedded message is bytes until a
// reader of its own is opened on it.
//
// Threads: one user at a time.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "base/error.h"
#include "wire/text.h"

namespace pyruntime {

static_assert(std::endian::native == std::endian::little, "the wire's byte order is the host's");

enum class WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

constexpr uint32_t tag_of(uint32_t field, WireType type) {
  return field << 3 | static_cast<uint32_t>(type);
}

using ByteSpan = std::span<const std::byte>;

class ProtobufReader {
 public:
  explicit ProtobufReader(ByteSpan message)
      : begin_(message.data()), at_(begin_), end_(begin_ + message.size()) {}

  // Moves to the next field; false at the end and after a failure. The field
  // must then be read by one of the calls below that suits its wire type.
  bool next() {
    if (at_ == end_) return false;
    const uint64_t tag = varint();
    if (!ok()) return false;
    tag_ = static_cast<uint32_t>(tag);
    if (tag != tag_ || field() == 0) return fail("a field number out of range");
    constexpr unsigned kKnown = 1U << 0 | 1U << 1 | 1U << 2 | 1U << 5;
    if ((kKnown >> (tag_ & 7U) & 1U) == 0) return fail("a group or an unknown wire type");
    return true;
  }

  uint32_t tag() const { return tag_; }
  uint32_t field() const { return tag_ >> 3; }
  WireType wire_type() const { return static_cast<WireType>(tag_ & 7U); }

  // Numbers beyond 64 bits lose what is too much, as protobuf has it.
  uint64_t varint() {
    if (at_ != end_ && std::to_integer<uint8_t>(*at_) < 0x80) [[likely]] {
      return std::to_integer<uint8_t>(*at_++);
    }
    return long_varint();
  }
  uint32_t fixed32() { return fixed<uint32_t>(); }
  uint64_t fixed64() { return fixed<uint64_t>(); }

  ByteSpan bytes() {
    const uint64_t size = varint();
    if (size > static_cast<std::size_t>(end_ - at_)) {
      fail("a length beyond the end");
      return {};
    }
    const ByteSpan value(at_, size);
    at_ += size;
    return value;
  }

  // Bytes that must be UTF-8.
  std::string_view text() {
    const ByteSpan value = bytes();
    const std::string_view text(reinterpret_cast<const char*>(value.data()), value.size());
    if (!is_utf8(text)) {
      fail("text that is not UTF-8");
      return {};
    }
    return text;
  }

  void skip() {
    switch (wire_type()) {
      case WireType::kVarint:
        varint();
        break;
      case WireType::kFixed64:
        fixed64();
        break;
      case WireType::kBytes:
        bytes();
        break;
      case WireType::kFixed32:
        fixed32();
        break;
    }
  }

  // Of a packed field's elements, which have no tags.
  bool at_end() const { return at_ == end_; }

  bool ok() const { return error_ == nullptr; }
  // What was found, and the offset near which; after a failure.
  const char* error() const { return error_; }
  std::size_t error_offset() const { return error_offset_; }

  // Ends the reading; always false.
  bool fail(const char* found) {
    if (ok()) {
      error_ = found;
      error_offset_ = static_cast<std::size_t>(at_ - begin_);
    }
    at_ = end_;
    return false;
  }

 private:
  uint64_t long_varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      if (at_ == end_) break;
      const auto byte = std::to_integer<uint64_t>(*at_++);
      value |= (byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    fail(at_ == end_ ? "the end inside a number" : "a number of more than 10 bytes");
    return 0;
  }

  template <typename T>
  T fixed() {
    if (static_cast<std::size_t>(end_ - at_) < sizeof(T)) {
      fail("the end inside a number");
      return 0;
    }
    T value;
    std::memcpy(&value, at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  const std::byte* const begin_;
  const std::byte* at_;
  const std::byte* const end_;
  uint32_t tag_ = 0;
  const char* error_ = nullptr;
  std::size_t error_offset_ = 0;
};

// "ModelInferRequest: malformed protobuf: a length beyond the end near byte 12"
Status malformed(std::string_view where, const ProtobufReader& reader);

}  // namespace pyruntime
