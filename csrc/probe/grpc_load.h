// Load on a server of gRPC: one unary call, sent again and again.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/clock.h"
#include "probe/http2.h"
#include "probe/load_result.h"

namespace pyruntime {

// The error code whose gRPC status this is; EngineError for one that is no code's.
ErrorCode code_of_grpc_status(int status);

// Threads: one user at a time; it has threads of its own while it measures.
class GrpcLoad {
 public:
  struct Options {
    std::string address;          // HOST:PORT or unix:PATH
    std::string path;             // "/package.Service/Method"
    std::size_t threads = 1;      // that generate, each with its share of the load
    std::size_t connections = 1;  // of each thread
    std::chrono::milliseconds connect_limit{5000};
    std::chrono::milliseconds patience{60'000};  // the longest without any answer
  };

  // message: of the request, as protobuf wrote it.
  GrpcLoad(Options options, std::span<const uint8_t> message);

  // Keeps so many calls in flight until the time is up, then waits for those that are. Both
  // throw Unavailable if there is no server, and say in LoadResult::ended if it goes away.
  LoadResult closed(std::size_t in_flight, Nanoseconds time);

  // Sends one at each of the times from the beginning, then waits for the answers.
  LoadResult open(std::span<const Nanoseconds> times, Nanoseconds length);

 private:
  const Options options_;
  const http2::Bytes message_;
};

}  // namespace pyruntime
