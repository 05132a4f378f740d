// Sockets that close themselves.
#pragma once

#include <chrono>
#include <string>
#include <utility>

namespace pyruntime {

class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket();

  int fd() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// A socket that does not block, connected to "HOST:PORT", "[::1]:PORT" or "unix:PATH". Throws
// InvalidInput for an address of no such form, Unavailable that says why there is nobody.
Socket connect_to(const std::string& address, std::chrono::milliseconds limit);

// A listener on a free port of 127.0.0.1. Throws Unavailable.
Socket listen_on_loopback(int* port);

// From one that listens, set not to block; invalid when nobody waits.
Socket accept_from(const Socket& listener);

}  // namespace pyruntime
