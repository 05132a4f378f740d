#include "probe/grpc_connection.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <sys/socket.h>

namespace pyruntime {
namespace {

using http2::Frame;

constexpr std::size_t kReadSize = std::size_t{256} * 1024;
constexpr uint32_t kLastId = 0x7fffffff - 2;

// What a reset stands for, as gRPC maps it.
int status_of_reset(uint32_t code) {
  constexpr uint32_t kRefusedStream = 7;
  constexpr uint32_t kCancel = 8;
  constexpr uint32_t kEnhanceYourCalm = 11;
  switch (code) {
    case kRefusedStream:
      return kGrpcUnavailable;
    case kCancel:
      return 1;
    case kEnhanceYourCalm:
      return 8;
    default:
      return kGrpcInternal;
  }
}

}  // namespace

http2::Bytes grpc_framed(std::span<const uint8_t> message) {
  http2::Bytes framed = {0};  // not compressed
  for (const int shift : {24, 16, 8, 0}) {
    framed.push_back(static_cast<uint8_t>(message.size() >> shift));
  }
  framed.insert(framed.end(), message.begin(), message.end());
  return framed;
}

GrpcConnection::GrpcConnection(Socket socket, const Call& call)
    : socket_(std::move(socket)), message_(call.message), in_(kReadSize) {
  http2::write_field(&header_block_, ":method", "POST");
  http2::write_field(&header_block_, ":scheme", "http");
  http2::write_field(&header_block_, ":path", call.path);
  http2::write_field(&header_block_, ":authority", call.authority);
  http2::write_field(&header_block_, "te", "trailers");
  http2::write_field(&header_block_, "content-type", "application/grpc");
  http2::write_field(&header_block_, "user-agent", "pyruntime-bench");

  out_.insert(out_.end(), http2::kPreface.begin(), http2::kPreface.end());
  const std::array<std::pair<http2::Setting, uint32_t>, 3> settings = {
      {{http2::kHeaderTableSize, 0},
       {http2::kEnablePush, 0},
       {http2::kInitialWindowSize, static_cast<uint32_t>(http2::kLargestWindow)}}};
  http2::write_settings(&out_, settings);
  http2::write_window_update(&out_, 0, http2::kLargestWindow - http2::kDefaultWindow);
}

bool GrpcConnection::can_send() const {
  return !is_lost() && !is_closing_ && streams_.size() < max_streams_ && next_id_ <= kLastId;
}

void GrpcConnection::send(uint64_t tag) {
  const uint32_t id = next_id_;
  next_id_ += 2;
  Stream& stream = streams_[id];
  stream.tag = tag;
  stream.window = initial_window_;
  http2::write_frame_header(&out_, header_block_.size(), http2::kHeaders, http2::kEndHeaders, id);
  out_.insert(out_.end(), header_block_.begin(), header_block_.end());
  write_message(id, stream);
  if (next_id_ > kLastId) is_closing_ = true;
}

void GrpcConnection::write_message(uint32_t id, Stream& stream) {
  const auto left = static_cast<int64_t>(message_.size() - stream.sent);
  const int64_t may = std::min(std::min(stream.window, window_), left);
  if (may > 0) {
    const auto part = message_.subspan(stream.sent, static_cast<std::size_t>(may));
    http2::write_data(&out_, id, part, max_frame_size_, may == left);
    stream.sent += part.size();
    stream.window -= may;
    window_ -= may;
  }
  if (may < left) blocked_.push_back(id);
}

void GrpcConnection::resume_blocked() {
  for (std::size_t count = blocked_.size(); count > 0 && window_ > 0; --count) {
    const uint32_t id = blocked_.front();
    blocked_.pop_front();
    // It may have been answered early.
    if (const auto found = streams_.find(id); found != streams_.end()) {
      write_message(id, found->second);
    }
  }
}

void GrpcConnection::flush() {
  while (written_ < out_.size()) {
    const ssize_t size = ::send(fd(), out_.data() + written_, out_.size() - written_, MSG_NOSIGNAL);
    if (size < 0) {
      if (errno == EINTR) continue;
      return;  // what else is wrong, reading will find
    }
    written_ += static_cast<std::size_t>(size);
  }
  out_.clear();
  written_ = 0;
}

void GrpcConnection::pump(std::vector<Answer>* answers) {
  if (is_lost()) return;
  read(answers);
  if (!is_lost()) flush();
}

void GrpcConnection::read(std::vector<Answer>* answers) {
  while (true) {
    const ssize_t size = ::recv(fd(), in_.data() + filled_, in_.size() - filled_, 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (size < 0) return lose(std::string("recv: ") + std::strerror(errno), answers);
    if (size == 0) return lose("closed by the server", answers);
    filled_ += static_cast<std::size_t>(size);

    const std::span<const uint8_t> all(in_.data(), filled_);
    std::size_t at = 0;
    Frame frame;
    while (const std::size_t whole = http2::read_frame(all.subspan(at), &frame)) {
      if (!handle(frame, answers)) return lose("the server broke the rules of HTTP/2", answers);
      at += whole;
    }
    std::memmove(in_.data(), in_.data() + at, filled_ - at);
    filled_ -= at;
    if (filled_ == in_.size()) return lose("a frame larger than was allowed", answers);
    // A short read took all there was; a further call would only say so.
    if (static_cast<std::size_t>(size) < kReadSize / 2) return;
  }
}

bool GrpcConnection::handle(Frame& frame, std::vector<Answer>* answers) {
  if (block_stream_ != 0 && frame.type != http2::kContinuation) return false;
  switch (frame.type) {
    case http2::kData:
      received_ += static_cast<int64_t>(frame.payload.size());
      if (received_ > http2::kLargestWindow / 2) {
        http2::write_window_update(&out_, 0, std::exchange(received_, 0));
      }
      if ((frame.flags & http2::kEndStream) != 0) finish(frame.stream, kGrpcUnknown, answers);
      return true;
    case http2::kHeaders:
    case http2::kContinuation:
      return handle_headers(frame, answers);
    case http2::kSettings:
      return handle_settings(frame);
    case http2::kPing:
      if (frame.payload.size() != 8) return false;
      if ((frame.flags & http2::kAck) == 0) {
        http2::write_frame_header(&out_, 8, http2::kPing, http2::kAck, 0);
        out_.insert(out_.end(), frame.payload.begin(), frame.payload.end());
      }
      return true;
    case http2::kWindowUpdate:
      return handle_window_update(frame);
    case http2::kResetStream:
      if (frame.payload.size() != 4) return false;
      finish(frame.stream, status_of_reset(http2::read_u32(frame.payload)), answers);
      return true;
    case http2::kGoAway:
      return handle_go_away(frame, answers);
    default:
      return true;  // to be ignored, says RFC 9113
  }
}

bool GrpcConnection::handle_settings(const Frame& frame) {
  if ((frame.flags & http2::kAck) != 0) return true;
  if (frame.payload.size() % 6 != 0) return false;
  for (std::size_t at = 0; at < frame.payload.size(); at += 6) {
    const uint32_t value = http2::read_u32(frame.payload.subspan(at + 2));
    switch (frame.payload[at] << 8 | frame.payload[at + 1]) {
      case http2::kMaxConcurrentStreams:
        max_streams_ = value;
        break;
      case http2::kInitialWindowSize: {
        if (value > http2::kLargestWindow) return false;
        const int64_t change = int64_t{value} - initial_window_;
        for (auto& [id, stream] : streams_) stream.window += change;
        initial_window_ = value;
        break;
      }
      case http2::kMaxFrameSize:
        max_frame_size_ = value;
        break;
      default:
        break;
    }
  }
  http2::write_frame_header(&out_, 0, http2::kSettings, http2::kAck, 0);
  resume_blocked();
  return true;
}

bool GrpcConnection::handle_window_update(const Frame& frame) {
  if (frame.payload.size() != 4) return false;
  const int64_t increment = http2::read_u32(frame.payload) & 0x7fffffff;
  if (frame.stream == 0) {
    window_ += increment;
  } else if (const auto found = streams_.find(frame.stream); found != streams_.end()) {
    found->second.window += increment;
  }
  resume_blocked();
  return true;
}

bool GrpcConnection::handle_go_away(const Frame& frame, std::vector<Answer>* answers) {
  if (frame.payload.size() < 8) return false;
  is_closing_ = true;
  const uint32_t last = http2::read_u32(frame.payload) & 0x7fffffff;
  std::vector<uint32_t> refused;
  for (const auto& [id, stream] : streams_) {
    if (id > last) refused.push_back(id);
  }
  for (const uint32_t id : refused) finish(id, kGrpcUnavailable, answers);
  return true;
}

bool GrpcConnection::handle_headers(const Frame& frame, std::vector<Answer>* answers) {
  Frame part = frame;
  if (frame.type == http2::kHeaders) {
    if (!http2::strip_padding(&part)) return false;
    block_.assign(part.payload.begin(), part.payload.end());
    block_stream_ = frame.stream;
    block_ends_stream_ = (frame.flags & http2::kEndStream) != 0;
  } else {
    if (block_stream_ == 0 || block_stream_ != frame.stream) return false;
    block_.insert(block_.end(), part.payload.begin(), part.payload.end());
  }
  if ((frame.flags & http2::kEndHeaders) == 0) return true;
  block_stream_ = 0;
  const auto found = streams_.find(frame.stream);
  if (found == streams_.end()) return true;
  const int status = http2::find_grpc_status(block_);
  if (status == http2::kUnreadable) return false;
  if (status != http2::kNoStatus) found->second.status = status;
  if (block_ends_stream_) {
    const int known = found->second.status;
    finish(frame.stream, known == http2::kNoStatus ? kGrpcUnknown : known, answers);
  }
  return true;
}

void GrpcConnection::finish(uint32_t id, int status, std::vector<Answer>* answers) {
  const auto found = streams_.find(id);
  if (found == streams_.end()) return;  // reset after it was answered
  answers->push_back({found->second.tag, status});
  // Answered before all was sent: the peer need not wait for the rest.
  if (found->second.sent < message_.size()) {
    http2::write_frame_header(&out_, 4, http2::kResetStream, 0, id);
    out_.insert(out_.end(), {0, 0, 0, 8});  // CANCEL
  }
  streams_.erase(found);
}

void GrpcConnection::lose(std::string why, std::vector<Answer>* answers) {
  why_lost_ = std::move(why);
  for (const auto& [id, stream] : streams_) answers->push_back({stream.tag, kGrpcUnavailable});
  streams_.clear();
  blocked_.clear();
}

}  // namespace pyruntime
