#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "wire/protobuf_reader.h"
#include "wire/protobuf_writer.h"
#include "wire/request_builder.h"
#include "wire/text.h"

namespace pyruntime {
namespace {

using testing::as_bytes;
using testing::bytes_field;
using testing::number_field;
using testing::varint;

std::string error_of(const std::string& message) {
  ProtobufReader reader(as_bytes(message));
  while (reader.next()) reader.skip();
  return reader.ok() ? "" : reader.error();
}

TEST_CASE("varints of every length are read and written alike") {
  for (int bit = 0; bit < 64; ++bit) {
    for (const uint64_t value :
         {uint64_t{1} << bit, (uint64_t{1} << bit) - 1, ~uint64_t{0} << bit}) {
      const std::string bytes = varint(value);
      ProtobufReader reader(as_bytes(bytes));
      CHECK(reader.varint() == value);
      CHECK(reader.ok());
      CHECK(reader.at_end());
      std::vector<std::byte> written(varint_size(value));
      ProtobufWriter writer(written.data());
      writer.varint(value);
      CHECK(writer.at() == written.data() + written.size());
      CHECK(std::string(reinterpret_cast<const char*>(written.data()), written.size()) == bytes);
    }
  }
}

TEST_CASE("a varint of more than ten bytes is refused") {
  CHECK(error_of("\x08" + std::string(10, '\x80') + "\x01") == "a number of more than 10 bytes");
  CHECK(error_of("\x08" + std::string(9, '\x80') + "\x01") == "");
}

TEST_CASE("fields of every wire type are read") {
  const std::string message = number_field(1, 300) + "\x15\x01\x02\x03\x04" +
                              std::string("\x19\x01\x00\x00\x00\x00\x00\x00\x00", 9) +
                              bytes_field(4, "text");
  ProtobufReader reader(as_bytes(message));
  REQUIRE(reader.next());
  CHECK(reader.tag() == tag_of(1, WireType::kVarint));
  CHECK(reader.varint() == 300);
  REQUIRE(reader.next());
  CHECK(reader.field() == 2);
  CHECK(reader.fixed32() == 0x04030201U);
  REQUIRE(reader.next());
  CHECK(reader.fixed64() == 1);
  REQUIRE(reader.next());
  CHECK(reader.text() == "text");
  CHECK_FALSE(reader.next());
  CHECK(reader.ok());
}

TEST_CASE("unknown fields are skipped") {
  const std::string message =
      number_field(1000, 7) + bytes_field(536870911, "largest field number") + number_field(1, 5);
  ProtobufReader reader(as_bytes(message));
  uint64_t value = 0;
  while (reader.next()) {
    if (reader.tag() == tag_of(1, WireType::kVarint)) {
      value = reader.varint();
    } else {
      reader.skip();
    }
  }
  CHECK(reader.ok());
  CHECK(value == 5);
}

TEST_CASE("groups, unknown wire types and field 0 are refused") {
  CHECK(error_of("\x0b\x0c") == "a group or an unknown wire type");
  CHECK(error_of("\x0c") == "a group or an unknown wire type");
  CHECK(error_of("\x0e") == "a group or an unknown wire type");
  CHECK(error_of("\x0f") == "a group or an unknown wire type");
  CHECK(error_of(std::string("\x00\x01", 2)) == "a field number out of range");
  CHECK(error_of(varint(uint64_t{1} << 32 | 8) + "\x01") == "a field number out of range");
}

TEST_CASE("a message cut anywhere inside a field is refused") {
  const std::string message = bytes_field(1, "some text") + number_field(2, 1 << 20) +
                              "\x1d\x01\x02\x03\x04" +
                              std::string("\x21\x01\x02\x03\x04\x05\x06\x07\x08");
  const std::vector<std::size_t> whole{0, 11, 15, 20, 29};
  for (std::size_t size = 0; size <= message.size(); ++size) {
    const bool is_whole = std::find(whole.begin(), whole.end(), size) != whole.end();
    CHECK_MESSAGE(error_of(message.substr(0, size)).empty() == is_whole, size);
  }
}

TEST_CASE("a length beyond the end is refused, however large") {
  for (const uint64_t size : {uint64_t{5}, uint64_t{1} << 31, ~uint64_t{0}}) {
    CHECK(error_of("\x0a" + varint(size) + "1234") == "a length beyond the end");
  }
}

TEST_CASE("a failure says near which byte") {
  const std::string message = bytes_field(1, "12345678") + "\x0a\x7f";
  ProtobufReader reader(as_bytes(message));
  while (reader.next()) reader.skip();
  CHECK(malformed("Message", reader).message() ==
        "Message: malformed protobuf: a length beyond the end near byte 12");
}

TEST_CASE("text must be UTF-8") {
  const auto is_read = [](const std::string& text) {
    const std::string message = bytes_field(1, text);
    ProtobufReader reader(as_bytes(message));
    reader.next();
    return reader.text() == text && reader.ok();
  };
  CHECK(is_read(""));
  CHECK(is_read(std::string("zero \0 inside", 13)));
  CHECK(is_read("Grüße, 世界, 🎉"));
  CHECK_FALSE(is_read("\xff"));
  CHECK_FALSE(is_read("long enough for a word \xc3"));
}

TEST_CASE("UTF-8 is well-formed at its edges only") {
  for (const char* good :
       {"\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
        "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    CHECK(is_utf8(good));
    CHECK(is_utf8("12345678" + std::string(good) + "12345678"));
  }
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc2", "\xe1\x80", "\xf1\x80\x80", "\xc2\x41"}) {
    CHECK_FALSE(is_utf8(bad));
    CHECK_FALSE(is_utf8("12345678" + std::string(bad)));
  }
}

TEST_CASE("long text is quoted in part, and never cut inside a character") {
  CHECK(quoted("ids") == "'ids'");
  std::string text = "1";
  for (int i = 0; i < 1000; ++i) text += "ü";
  CHECK(is_utf8(quoted(text)));
  CHECK(quoted(text).size() < 100);
}

}  // namespace
}  // namespace pyruntime
