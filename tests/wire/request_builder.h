// Writes protobuf messages for tests, right or wrong, apart from the codec.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pyruntime::testing {

inline std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes += static_cast<char>(value);
}

inline std::string number_field(uint32_t field, uint64_t value) {
  return varint(field << 3) + varint(value);
}

inline std::string bytes_field(uint32_t field, std::string_view value) {
  return varint(field << 3 | 2) + varint(value.size()) + std::string(value);
}

template <typename T>
std::string raw(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// Elements of BYTES.
inline std::string raw_strings(const std::vector<std::string>& values) {
  std::string bytes;
  for (const std::string& value : values) {
    bytes += raw(std::vector<uint32_t>{static_cast<uint32_t>(value.size())}) + value;
  }
  return bytes;
}

template <typename T>
std::string packed_varints(uint32_t field, const std::vector<T>& values) {
  std::string bytes;
  for (const T value : values) bytes += varint(static_cast<uint64_t>(static_cast<int64_t>(value)));
  return bytes_field(field, bytes);
}

// An entry of a map of parameters; `value` is a field of InferParameter.
inline std::string parameter(uint32_t field, std::string_view name, std::string_view value) {
  return bytes_field(field, bytes_field(1, name) + bytes_field(2, value));
}

inline std::string input_message(std::string_view name, std::string_view datatype,
                                 const std::vector<int64_t>& shape, std::string_view more = {}) {
  return bytes_field(1, name) + bytes_field(2, datatype) + packed_varints(3, shape) +
         std::string(more);
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Piece by piece, in the order of the fields.
struct RequestBuilder {
  std::string bytes;

  RequestBuilder& model(std::string_view name) { return add(bytes_field(1, name)); }
  RequestBuilder& version(std::string_view text) { return add(bytes_field(2, text)); }
  RequestBuilder& id(std::string_view text) { return add(bytes_field(3, text)); }
  RequestBuilder& parameter(std::string_view name, std::string_view value) {
    return add(testing::parameter(4, name, value));
  }
  RequestBuilder& input(std::string_view name, std::string_view datatype,
                        const std::vector<int64_t>& shape, std::string_view more = {}) {
    return add(bytes_field(5, input_message(name, datatype, shape, more)));
  }
  RequestBuilder& output(std::string_view name, std::string_view more = {}) {
    return add(bytes_field(6, bytes_field(1, name) + std::string(more)));
  }
  RequestBuilder& raw(std::string_view contents) { return add(bytes_field(7, contents)); }
  RequestBuilder& add(std::string_view more) {
    bytes += more;
    return *this;
  }
};

}  // namespace pyruntime::testing
