#include "probe/grpc_responder.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "probe/grpc_connection.h"
#include "probe/slice.h"

namespace pyruntime {

GrpcResponder::GrpcResponder(Options options, std::span<const uint8_t> message)
    : options_(std::move(options)), message_(grpc_framed(message)) {
  http2::write_field(&head_, ":status", "200");
  http2::write_field(&head_, "content-type", "application/grpc");
  http2::write_field(&trail_, "grpc-status", std::to_string(options_.status));
  listener_ = listen_on_loopback(&port_);
  thread_ = std::thread([this] { serve(); });
}

GrpcResponder::~GrpcResponder() {
  stops_ = true;
  thread_.join();
}

void GrpcResponder::serve() {
  prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  began_at_ = steady_now();
  while (!stops_.load(std::memory_order_relaxed)) {
    wait();
    stall();
    while (Socket accepted = accept_from(listener_)) {
      connections_.push_back(std::make_shared<Connection>(std::move(accepted)));
      http2::Bytes& out = connections_.back()->out;
      const std::array<std::pair<http2::Setting, uint32_t>, 2> settings = {
          {{http2::kMaxConcurrentStreams, options_.max_streams},
           {http2::kInitialWindowSize, static_cast<uint32_t>(http2::kLargestWindow)}}};
      http2::write_settings(&out, settings);
      http2::write_window_update(&out, 0, http2::kLargestWindow - http2::kDefaultWindow);
    }
    for (const auto& connection : connections_) read(connection);
    for (auto next = due_.begin(); next != due_.end() && next->first <= steady_now();) {
      answer(*next->second.connection, next->second.stream, next->second.read_at);
      next = due_.erase(next);
    }
    for (const auto& connection : connections_) write(*connection);
    std::erase_if(connections_, [](const auto& connection) { return connection->is_lost; });
    if (options_.dies_after > 0 && answers_ >= options_.dies_after) {
      connections_.clear();
      due_.clear();
      listener_ = Socket();
      return;
    }
  }
}

void GrpcResponder::wait() {
  std::vector<pollfd> polled = {{.fd = listener_.fd(), .events = POLLIN, .revents = 0}};
  for (const auto& connection : connections_) {
    const int events = POLLIN | (connection->out.empty() ? 0 : POLLOUT);
    polled.push_back(
        {.fd = connection->socket.fd(), .events = static_cast<int16_t>(events), .revents = 0});
  }
  Nanoseconds until = std::chrono::milliseconds(20);  // then look whether to stop
  if (!due_.empty()) until = std::min(until, due_.begin()->first - steady_now());
  const timespec limit{.tv_sec = 0, .tv_nsec = std::max<int64_t>(until.count(), 0)};
  ppoll(polled.data(), polled.size(), &limit, nullptr);
}

void GrpcResponder::stall() {
  if (options_.stall_period.count() == 0) return;
  const Nanoseconds at = (steady_now() - began_at_) % options_.stall_period;
  if (at >= options_.stall_period - options_.stall) {
    std::this_thread::sleep_for(options_.stall_period - at);
  }
}

void GrpcResponder::read(const std::shared_ptr<Connection>& connection) {
  std::array<uint8_t, 65536> part;
  const ssize_t size = ::recv(connection->socket.fd(), part.data(), part.size(), 0);
  if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
  if (size <= 0) {
    connection->is_lost = true;
    return;
  }
  http2::Bytes& in = connection->in;
  in.insert(in.end(), part.begin(), part.begin() + size);
  std::size_t at = 0;
  // The preface is as good as a frame without payload that is not known.
  if (in.size() >= http2::kPreface.size() &&
      std::equal(http2::kPreface.begin(), http2::kPreface.end(), in.begin())) {
    at = http2::kPreface.size();
  }
  http2::Frame frame;
  while (const std::size_t whole =
             http2::read_frame(std::span<const uint8_t>(in).subspan(at), &frame)) {
    handle(connection, frame);
    at += whole;
  }
  in.erase(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(at));
}

void GrpcResponder::handle(const std::shared_ptr<Connection>& connection,
                           const http2::Frame& frame) {
  http2::Bytes& out = connection->out;
  switch (frame.type) {
    case http2::kData:
      connection->received += static_cast<int64_t>(frame.payload.size());
      if (connection->received > http2::kLargestWindow / 2) {
        http2::write_window_update(&out, 0, std::exchange(connection->received, 0));
      }
      if ((frame.flags & http2::kEndStream) != 0) take_call(connection, frame.stream);
      break;
    case http2::kSettings:
      if ((frame.flags & http2::kAck) == 0) {
        http2::write_frame_header(&out, 0, http2::kSettings, http2::kAck, 0);
      }
      break;
    case http2::kPing:
      if ((frame.flags & http2::kAck) == 0) {
        http2::write_frame_header(&out, frame.payload.size(), http2::kPing, http2::kAck, 0);
        out.insert(out.end(), frame.payload.begin(), frame.payload.end());
      }
      break;
    default:
      break;
  }
}

void GrpcResponder::take_call(const std::shared_ptr<Connection>& connection, uint32_t stream) {
  const TimePoint now = steady_now();
  if (options_.delays.empty()) return answer(*connection, stream, now);
  const Nanoseconds delay = options_.delays[calls_++ % options_.delays.size()];
  due_.emplace(now + delay, Due{connection, stream, now});
}

void GrpcResponder::answer(Connection& connection, uint32_t stream, TimePoint read_at) {
  http2::Bytes& out = connection.out;
  http2::write_frame_header(&out, head_.size(), http2::kHeaders, http2::kEndHeaders, stream);
  out.insert(out.end(), head_.begin(), head_.end());
  if (options_.status == 0) {
    http2::write_data(&out, stream, message_, http2::kDefaultFrameSize, false);
  }
  http2::write_frame_header(&out, trail_.size(), http2::kHeaders,
                            http2::kEndHeaders | http2::kEndStream, stream);
  out.insert(out.end(), trail_.begin(), trail_.end());
  ++answers_;
  held_.add((steady_now() - read_at).count());
}

void GrpcResponder::write(Connection& connection) {
  std::size_t written = 0;
  while (written < connection.out.size()) {
    const ssize_t size = ::send(connection.socket.fd(), connection.out.data() + written,
                                connection.out.size() - written, MSG_NOSIGNAL);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) {
      connection.is_lost = errno != EAGAIN && errno != EWOULDBLOCK;
      break;
    }
    written += static_cast<std::size_t>(size);
  }
  connection.out.erase(connection.out.begin(),
                       connection.out.begin() + static_cast<std::ptrdiff_t>(written));
}

}  // namespace pyruntime
