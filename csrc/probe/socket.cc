#include "probe/socket.h"

#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"

namespace pyruntime {
namespace {

std::string error_text(int number) { return std::strerror(number); }

[[noreturn]] void throw_unavailable(const std::string& address, const std::string& why) {
  throw Error(ErrorCode::kUnavailable, address + ": " + why);
}

void set_no_delay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// Nothing, or why it did not connect.
std::string connect_within(int fd, const sockaddr* address, socklen_t size,
                           std::chrono::milliseconds limit) {
  if (connect(fd, address, size) == 0) return {};
  if (errno != EINPROGRESS) return error_text(errno);
  pollfd waits{.fd = fd, .events = POLLOUT, .revents = 0};
  const int ready = poll(&waits, 1, static_cast<int>(limit.count()));
  if (ready == 0) return "no connection within " + std::to_string(limit.count()) + " ms";
  int failed = 0;
  socklen_t failed_size = sizeof failed;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &failed_size) != 0) failed = errno;
  return failed == 0 ? std::string() : error_text(failed);
}

Socket connect_unix(const std::string& address, std::chrono::milliseconds limit) {
  sockaddr_un path{};
  path.sun_family = AF_UNIX;
  const std::string_view name = std::string_view(address).substr(5);
  if (name.empty() || name.size() >= sizeof path.sun_path) {
    throw Error(ErrorCode::kInvalidInput,
                "address '" + address + "': expected a path of 1 to 107 bytes");
  }
  name.copy(path.sun_path, name.size());
  Socket socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) throw_unavailable(address, "socket: " + error_text(errno));
  const std::string why =
      connect_within(socket.fd(), reinterpret_cast<const sockaddr*>(&path), sizeof path, limit);
  if (!why.empty()) throw_unavailable(address, why);
  return socket;
}

}  // namespace

Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

Socket connect_to(const std::string& address, std::chrono::milliseconds limit) {
  if (address.starts_with("unix:")) return connect_unix(address, limit);
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size()) {
    throw Error(ErrorCode::kInvalidInput,
                "address: expected HOST:PORT or unix:PATH, got '" + address + "'");
  }
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found);
  if (failed != 0) throw_unavailable(address, gai_strerror(failed));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, &freeaddrinfo);
  std::string why = "no address";
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    Socket socket(::socket(each->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!socket) {
      why = "socket: " + error_text(errno);
      continue;
    }
    why = connect_within(socket.fd(), each->ai_addr, each->ai_addrlen, limit);
    if (!why.empty()) continue;
    set_no_delay(socket.fd());
    return socket;
  }
  throw_unavailable(address, why);
}

Socket listen_on_loopback(int* port) {
  Socket listener(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (!listener || bind(listener.fd(), any, size) != 0 || listen(listener.fd(), 128) != 0 ||
      getsockname(listener.fd(), any, &size) != 0) {
    throw_unavailable("127.0.0.1", "no port to listen on: " + error_text(errno));
  }
  *port = ntohs(address.sin_port);
  return listener;
}

Socket accept_from(const Socket& listener) {
  Socket socket(accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket) set_no_delay(socket.fd());
  return socket;
}

}  // namespace pyruntime
