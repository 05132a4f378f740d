// A server of gRPC that answers every unary call with the same message, at once
// or after known delays: what shows the limit of a load generator, and whether
// what it measures is true.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "probe/http2.h"
#include "probe/latency_histogram.h"
#include "probe/socket.h"

namespace pyruntime {

// Threads: it answers on one of its own; the rest belongs to who made it.
class GrpcResponder {
 public:
  struct Options {
    // Of one call after the other, in turns; empty: at once.
    std::vector<Nanoseconds> delays;
    // It does nothing at all for so long at the end of every such period; 0: never.
    Nanoseconds stall{0};
    Nanoseconds stall_period{0};
    // That it takes at once on a connection.
    uint32_t max_streams = 1U << 20;
    // Status of gRPC that it answers with.
    int status = 0;
    // Ends, with all its connections, after so many answers; 0: never.
    int64_t dies_after = 0;
  };

  // message: of the answer, as protobuf wrote it. Listens on a free port of 127.0.0.1.
  GrpcResponder(Options options, std::span<const uint8_t> message);
  ~GrpcResponder();

  GrpcResponder(const GrpcResponder&) = delete;
  GrpcResponder& operator=(const GrpcResponder&) = delete;

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  // How long it really held each call, from reading it to its answer: what the delays became on a
  // machine that has other things to do. Threads: any, best when nobody calls.
  const LatencyHistogram& held() const { return held_; }

 private:
  struct Connection {
    explicit Connection(Socket accepted) : socket(std::move(accepted)) {}
    Socket socket;
    http2::Bytes in;
    http2::Bytes out;
    int64_t received = 0;  // bytes of DATA that the peer's window lacks
    bool is_lost = false;
  };
  struct Due {
    std::shared_ptr<Connection> connection;
    uint32_t stream;
    TimePoint read_at;
  };

  void serve();
  void wait();
  void stall();
  void read(const std::shared_ptr<Connection>& connection);
  void handle(const std::shared_ptr<Connection>& connection, const http2::Frame& frame);
  void take_call(const std::shared_ptr<Connection>& connection, uint32_t stream);
  void answer(Connection& connection, uint32_t stream, TimePoint read_at);
  static void write(Connection& connection);

  const Options options_;
  const http2::Bytes message_;
  http2::Bytes head_;   // header block before the message
  http2::Bytes trail_;  // and after it
  int port_ = 0;
  Socket listener_;

  // The thread's.
  std::vector<std::shared_ptr<Connection>> connections_;
  std::multimap<TimePoint, Due> due_;
  std::size_t calls_ = 0;
  int64_t answers_ = 0;
  TimePoint began_at_{};

  LatencyHistogram held_;  // synchronises itself
  std::atomic<bool> stops_{false};
  std::thread thread_;  // last: uses all of the above
};

}  // namespace pyruntime
