// Frames, and the one header that is read of an answer.
#include <array>
#include <string_view>
#include <utility>

#include <doctest/doctest.h>

#include "probe/http2.h"

namespace pyruntime::http2 {
namespace {

Bytes to_bytes(std::initializer_list<int> values) {
  Bytes bytes;
  for (const int value : values) bytes.push_back(static_cast<uint8_t>(value));
  return bytes;
}

TEST_CASE("a status is found among other fields, plain") {
  Bytes block;
  write_field(&block, "content-type", "application/grpc");
  write_field(&block, "grpc-status", "14");
  write_field(&block, "grpc-message", std::string(300, 'x'));
  CHECK(find_grpc_status(block) == 14);
}

TEST_CASE("a status is found in Huffman code") {
  // As hpack of Python writes it: literal, name and value coded.
  const Bytes name = to_bytes({0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f});
  // "0", "8", "13", "16": 00000 111, 011110 11, 00001 011001 11111, 00001 011100 11111
  const std::pair<Bytes, int> values[] = {{to_bytes({0x07}), 0},
                                          {to_bytes({0x7b}), 8},
                                          {to_bytes({0x0b, 0x3f}), 13},
                                          {to_bytes({0x0b, 0x9f}), 16}};
  for (const auto& [value, status] : values) {
    for (const int kind : {0x00, 0x10, 0x40}) {
      Bytes block = to_bytes({0x20, 0x88, kind, 0x80 | 8});
      block.insert(block.end(), name.begin(), name.end());
      block.push_back(static_cast<uint8_t>(0x80 | value.size()));
      block.insert(block.end(), value.begin(), value.end());
      CHECK(find_grpc_status(block) == status);
    }
  }
}

TEST_CASE("a block without a status has none, and one that breaks the rules is unreadable") {
  CHECK(find_grpc_status(to_bytes({0x88})) == kNoStatus);
  CHECK(find_grpc_status({}) == kNoStatus);
  CHECK(find_grpc_status(to_bytes({0xbe})) == kUnreadable);  // of the dynamic table
  CHECK(find_grpc_status(to_bytes({0x80})) == kUnreadable);  // index 0
  CHECK(find_grpc_status(to_bytes({0x00, 0x05, 'a'})) == kUnreadable);
  CHECK(find_grpc_status(to_bytes({0xff})) == kUnreadable);
  CHECK(find_grpc_status(to_bytes({0x7f, 0xff, 0xff, 0xff, 0xff, 0xff})) == kUnreadable);
  Bytes block;
  write_field(&block, "grpc-status", "x");
  CHECK(find_grpc_status(block) == kUnreadable);
}

TEST_CASE("no prefix or changed byte of a block makes reading it go wrong") {
  Bytes block = to_bytes({0x3f, 0xe1, 0x1f, 0x88});
  write_field(&block, "grpc-status", "0");
  for (std::size_t size = 0; size < block.size(); ++size) {
    find_grpc_status(std::span(block).first(size));
    for (int value = 0; value < 256; ++value) {
      Bytes changed = block;
      changed[size] = static_cast<uint8_t>(value);
      find_grpc_status(changed);
    }
  }
}

TEST_CASE("a frame is read when it is all there") {
  Bytes out;
  write_data(&out, 7, to_bytes({1, 2, 3}), 16384, true);
  Frame frame;
  CHECK(read_frame(std::span(out).first(out.size() - 1), &frame) == 0);
  REQUIRE(read_frame(out, &frame) == 12);
  CHECK(frame.type == kData);
  CHECK(frame.flags == kEndStream);
  CHECK(frame.stream == 7);
  CHECK(frame.payload.size() == 3);
}

TEST_CASE("long data goes in several frames, of which the last ends the stream") {
  Bytes out;
  write_data(&out, 1, Bytes(2500, 9), 1000, true);
  Frame frame;
  std::span<const uint8_t> rest = out;
  for (const auto& [size, flags] : {std::pair{1000, 0}, {1000, 0}, {500, 1}}) {
    const std::size_t whole = read_frame(rest, &frame);
    CHECK(frame.payload.size() == static_cast<std::size_t>(size));
    CHECK(frame.flags == flags);
    rest = rest.subspan(whole);
  }
  CHECK(rest.empty());
}

TEST_CASE("padding and priority are cut off, and refused where there is no room") {
  const Bytes padded = to_bytes({2, 0, 0, 0, 0, 9, 'a', 'b', 0, 0});
  Frame frame{.type = kHeaders, .flags = kPadded | kPriority, .stream = 1, .payload = padded};
  REQUIRE(strip_padding(&frame));
  CHECK(frame.payload.size() == 2);
  CHECK(frame.payload[0] == 'a');
  frame = {.type = kData, .flags = kPadded, .stream = 1, .payload = std::span(padded).first(2)};
  CHECK(!strip_padding(&frame));
}

}  // namespace
}  // namespace pyruntime::http2
