#include "probe/http2.h"

#include <algorithm>
#include <array>
#include <optional>

namespace pyruntime::http2 {
namespace {

constexpr uint32_t kStaticTableSize = 61;

// "grpc-status" in the Huffman code of RFC 7541, appendix B.
constexpr std::array<uint8_t, 8> kHuffmanGrpcStatus = {0x9a, 0xca, 0xc8, 0xb2,
                                                       0x12, 0x34, 0xda, 0x8f};
constexpr std::string_view kGrpcStatus = "grpc-status";

void write_u32(Bytes* out, uint32_t value) {
  for (const int shift : {24, 16, 8, 0}) out->push_back(static_cast<uint8_t>(value >> shift));
}

// Digits have codes of 5 bits (0 to 2) or 6 (3 to 9); ones pad the last byte.
std::optional<std::string> huffman_digits(std::span<const uint8_t> coded) {
  std::string digits;
  std::size_t bit = 0;
  const auto peek = [&](std::size_t count) {
    uint32_t value = 0;
    for (std::size_t i = bit; i < bit + count; ++i) {
      const bool is_set = i / 8 >= coded.size() || (coded[i / 8] >> (7 - i % 8) & 1) != 0;
      value = value << 1 | uint32_t{is_set};
    }
    return value;
  };
  while (bit + 5 <= 8 * coded.size()) {
    if (const uint32_t five = peek(5); five <= 2) {
      digits.push_back(static_cast<char>('0' + five));
      bit += 5;
    } else if (const uint32_t six = peek(6); six >= 0x19 && six <= 0x1f) {
      digits.push_back(static_cast<char>('3' + (six - 0x19)));
      bit += 6;
    } else {
      return peek(8 * coded.size() - bit) == (uint32_t{1} << (8 * coded.size() - bit)) - 1
                 ? std::optional(digits)
                 : std::nullopt;
    }
  }
  return digits;
}

// Reads a header block from its front.
class BlockReader {
 public:
  explicit BlockReader(std::span<const uint8_t> block) : rest_(block) {}

  bool is_done() const { return rest_.empty(); }
  uint8_t peek() const { return rest_[0]; }

  // An integer whose first `bits` share their byte with something else.
  std::optional<uint32_t> integer(int bits) {
    if (rest_.empty()) return std::nullopt;
    const uint32_t most = (1U << bits) - 1;
    uint32_t value = rest_[0] & most;
    rest_ = rest_.subspan(1);
    if (value < most) return value;
    for (int shift = 0; shift <= 21 && !rest_.empty(); shift += 7) {
      const uint8_t byte = rest_[0];
      rest_ = rest_.subspan(1);
      value += (byte & 0x7fU) << shift;
      if ((byte & 0x80) == 0) return value;
    }
    return std::nullopt;
  }

  struct Text {
    std::span<const uint8_t> bytes;
    bool is_huffman = false;
  };
  std::optional<Text> text() {
    if (rest_.empty()) return std::nullopt;
    const bool is_huffman = (rest_[0] & 0x80) != 0;
    const std::optional<uint32_t> size = integer(7);
    if (!size || *size > rest_.size()) return std::nullopt;
    const Text text{rest_.first(*size), is_huffman};
    rest_ = rest_.subspan(*size);
    return text;
  }

 private:
  std::span<const uint8_t> rest_;
};

bool is_grpc_status(const BlockReader::Text& name) {
  return name.is_huffman ? std::ranges::equal(name.bytes, kHuffmanGrpcStatus)
                         : std::ranges::equal(name.bytes, kGrpcStatus);
}

int to_status(const BlockReader::Text& value) {
  std::optional<std::string> digits;
  if (value.is_huffman) {
    digits = huffman_digits(value.bytes);
  } else {
    digits.emplace(value.bytes.begin(), value.bytes.end());
  }
  if (!digits || digits->empty() || digits->size() > 3) return kUnreadable;
  int status = 0;
  for (const char digit : *digits) {
    if (digit < '0' || digit > '9') return kUnreadable;
    status = 10 * status + (digit - '0');
  }
  return status;
}

}  // namespace

uint32_t read_u32(std::span<const uint8_t> bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 |
         uint32_t{bytes[3]};
}

std::size_t read_frame(std::span<const uint8_t> bytes, Frame* frame) {
  if (bytes.size() < kFrameHeaderSize) return 0;
  const std::size_t size = read_u32(bytes) >> 8;
  if (bytes.size() < kFrameHeaderSize + size) return 0;
  frame->type = bytes[3];
  frame->flags = bytes[4];
  frame->stream = read_u32(bytes.subspan(5)) & 0x7fffffff;
  frame->payload = bytes.subspan(kFrameHeaderSize, size);
  return kFrameHeaderSize + size;
}

bool strip_padding(Frame* frame) {
  std::size_t padding = 0;
  if ((frame->flags & kPadded) != 0) {
    if (frame->payload.empty()) return false;
    padding = frame->payload[0];
    frame->payload = frame->payload.subspan(1);
  }
  if (frame->type == kHeaders && (frame->flags & kPriority) != 0) {
    if (frame->payload.size() < 5) return false;
    frame->payload = frame->payload.subspan(5);
  }
  if (padding > frame->payload.size()) return false;
  frame->payload = frame->payload.first(frame->payload.size() - padding);
  return true;
}

void write_frame_header(Bytes* out, std::size_t size, FrameType type, int flags, uint32_t stream) {
  const std::array<uint8_t, kFrameHeaderSize> header = {
      static_cast<uint8_t>(size >> 16),   static_cast<uint8_t>(size >> 8),
      static_cast<uint8_t>(size),         type,
      static_cast<uint8_t>(flags),        static_cast<uint8_t>(stream >> 24),
      static_cast<uint8_t>(stream >> 16), static_cast<uint8_t>(stream >> 8),
      static_cast<uint8_t>(stream)};
  out->insert(out->end(), header.begin(), header.end());
}

void write_settings(Bytes* out, std::span<const std::pair<Setting, uint32_t>> settings) {
  write_frame_header(out, 6 * settings.size(), kSettings, 0, 0);
  for (const auto& [setting, value] : settings) {
    out->push_back(0);
    out->push_back(static_cast<uint8_t>(setting));
    write_u32(out, value);
  }
}

void write_window_update(Bytes* out, uint32_t stream, int64_t increment) {
  write_frame_header(out, 4, kWindowUpdate, 0, stream);
  write_u32(out, static_cast<uint32_t>(increment));
}

void write_data(Bytes* out, uint32_t stream, std::span<const uint8_t> data, std::size_t frame_size,
                bool ends) {
  do {
    const auto part = data.first(std::min(data.size(), frame_size));
    data = data.subspan(part.size());
    write_frame_header(out, part.size(), kData, ends && data.empty() ? kEndStream : 0, stream);
    out->insert(out->end(), part.begin(), part.end());
  } while (!data.empty());
}

void write_field(Bytes* out, std::string_view name, std::string_view value) {
  out->push_back(0);  // literal, its name too
  for (const std::string_view text : {name, value}) {
    std::size_t size = text.size();
    if (size < 0x7f) {
      out->push_back(static_cast<uint8_t>(size));
    } else {
      out->push_back(0x7f);
      for (size -= 0x7f; size >= 0x80; size >>= 7) {
        out->push_back(static_cast<uint8_t>(size | 0x80));
      }
      out->push_back(static_cast<uint8_t>(size));
    }
    out->insert(out->end(), text.begin(), text.end());
  }
}

int find_grpc_status(std::span<const uint8_t> block) {
  BlockReader reader(block);
  int status = kNoStatus;
  while (!reader.is_done()) {
    const uint8_t first = reader.peek();
    if ((first & 0x80) != 0) {  // a whole field of a table
      const std::optional<uint32_t> index = reader.integer(7);
      if (!index || *index == 0 || *index > kStaticTableSize) return kUnreadable;
      continue;
    }
    if ((first & 0xe0) == 0x20) {  // the table's new size
      if (!reader.integer(5)) return kUnreadable;
      continue;
    }
    const std::optional<uint32_t> index = reader.integer((first & 0x40) != 0 ? 6 : 4);
    if (!index || *index > kStaticTableSize) return kUnreadable;
    bool is_status = false;
    if (*index == 0) {
      const std::optional<BlockReader::Text> name = reader.text();
      if (!name) return kUnreadable;
      is_status = is_grpc_status(*name);
    }
    const std::optional<BlockReader::Text> value = reader.text();
    if (!value) return kUnreadable;
    if (is_status) status = to_status(*value);
  }
  return status;
}

}  // namespace pyruntime::http2
