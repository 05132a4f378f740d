// As much of HTTP/2 (RFC 9113) as a load generator needs: frames, and the one
// header of an answer that it reads. It tells its peer to keep no header table
// (RFC 7541), so that each header block can be read by itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pyruntime::http2 {

using Bytes = std::vector<uint8_t>;

inline constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
inline constexpr std::size_t kFrameHeaderSize = 9;
inline constexpr std::size_t kDefaultFrameSize = 16384;
inline constexpr int64_t kDefaultWindow = 65535;
inline constexpr int64_t kLargestWindow = (int64_t{1} << 31) - 1;

enum FrameType : uint8_t {
  kData = 0,
  kHeaders = 1,
  kResetStream = 3,
  kSettings = 4,
  kPing = 6,
  kGoAway = 7,
  kWindowUpdate = 8,
  kContinuation = 9,
};

enum Flags : uint8_t { kEndStream = 1, kAck = 1, kEndHeaders = 4, kPadded = 8, kPriority = 32 };

enum Setting : uint16_t {
  kHeaderTableSize = 1,
  kEnablePush = 2,
  kMaxConcurrentStreams = 3,
  kInitialWindowSize = 4,
  kMaxFrameSize = 5,
};

struct Frame {
  uint8_t type = 0;
  uint8_t flags = 0;
  uint32_t stream = 0;
  std::span<const uint8_t> payload;
};

uint32_t read_u32(std::span<const uint8_t> bytes);  // of the first 4

// The first frame of `bytes` and its whole size; size 0: it is not all there.
std::size_t read_frame(std::span<const uint8_t> bytes, Frame* frame);

// Cuts padding and priority off a DATA or HEADERS frame. False: it has no room for them.
bool strip_padding(Frame* frame);

void write_frame_header(Bytes* out, std::size_t size, FrameType type, int flags, uint32_t stream);
void write_settings(Bytes* out, std::span<const std::pair<Setting, uint32_t>> settings);
void write_window_update(Bytes* out, uint32_t stream, int64_t increment);
// DATA frames of at most `frame_size`; the last ends the stream if `ends`.
void write_data(Bytes* out, uint32_t stream, std::span<const uint8_t> data, std::size_t frame_size,
                bool ends);

// One field of a header block, in no table and not compressed.
void write_field(Bytes* out, std::string_view name, std::string_view value);

inline constexpr int kNoStatus = -1;
inline constexpr int kUnreadable = -2;

// The value of the field grpc-status, kNoStatus, or kUnreadable where the block
// breaks the rules or refers to a header table.
int find_grpc_status(std::span<const uint8_t> block);

}  // namespace pyruntime::http2
