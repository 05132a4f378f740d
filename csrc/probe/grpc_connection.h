// A client's side of one connection that carries the same unary gRPC call again
// and again. It costs some microseconds a call where a full client costs a
// hundred, so that the server shows and not the client.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "probe/http2.h"
#include "probe/socket.h"

namespace pyruntime {

inline constexpr int kGrpcUnknown = 2;
inline constexpr int kGrpcInternal = 13;
inline constexpr int kGrpcUnavailable = 14;

// Threads: one user.
class GrpcConnection {
 public:
  // What is sent: `message` (with the 5 bytes before it, see grpc_framed) must outlive this.
  struct Call {
    std::string authority;
    std::string path;  // "/package.Service/Method"
    std::span<const uint8_t> message;
  };
  struct Answer {
    uint64_t tag;
    int status;  // of gRPC, 0 is success
  };

  // socket: connected, and set not to block.
  GrpcConnection(Socket socket, const Call& call);

  int fd() const { return socket_.fd(); }
  std::size_t in_flight() const { return streams_.size(); }
  // Whether the peer takes another call.
  bool can_send() const;
  bool is_lost() const { return !why_lost_.empty(); }
  // Whether it was lost, or the peer asked for no more and all is answered.
  bool is_over() const { return is_lost() || (is_closing_ && streams_.empty()); }
  const std::string& why_lost() const { return why_lost_; }
  bool wants_to_write() const { return written_ < out_.size(); }

  // Begins a call; flush() or pump() writes it.
  void send(uint64_t tag);
  void flush();
  // Reads and writes what goes without waiting, and appends what was answered. When the
  // connection is lost, all that was in flight is answered as unavailable.
  void pump(std::vector<Answer>* answers);

 private:
  struct Stream {
    uint64_t tag = 0;
    std::size_t sent = 0;  // bytes of the message
    int64_t window = 0;    // of the peer
    int status = http2::kNoStatus;
  };

  void write_message(uint32_t id, Stream& stream);
  void resume_blocked();
  void read(std::vector<Answer>* answers);
  bool handle(http2::Frame& frame, std::vector<Answer>* answers);
  bool handle_settings(const http2::Frame& frame);
  bool handle_window_update(const http2::Frame& frame);
  bool handle_go_away(const http2::Frame& frame, std::vector<Answer>* answers);
  bool handle_headers(const http2::Frame& frame, std::vector<Answer>* answers);
  void finish(uint32_t id, int status, std::vector<Answer>* answers);
  void lose(std::string why, std::vector<Answer>* answers);

  Socket socket_;
  const std::span<const uint8_t> message_;
  http2::Bytes header_block_;  // of every call

  std::unordered_map<uint32_t, Stream> streams_;
  std::deque<uint32_t> blocked_;  // their message waits for a window
  uint32_t next_id_ = 1;
  bool is_closing_ = false;  // the peer takes no more
  std::string why_lost_;

  // What the peer said.
  std::size_t max_streams_ = 100;  // until it says otherwise, as RFC 9113 advises
  std::size_t max_frame_size_ = http2::kDefaultFrameSize;
  int64_t initial_window_ = http2::kDefaultWindow;
  int64_t window_ = http2::kDefaultWindow;

  http2::Bytes out_;
  std::size_t written_ = 0;  // of out_
  http2::Bytes in_;
  std::size_t filled_ = 0;     // of in_
  int64_t received_ = 0;       // bytes of DATA that the peer's window lacks
  http2::Bytes block_;         // of a header that goes on in CONTINUATION
  uint32_t block_stream_ = 0;  // 0: none does
  bool block_ends_stream_ = false;
};

// `message` as gRPC frames it.
http2::Bytes grpc_framed(std::span<const uint8_t> message);

}  // namespace pyruntime
