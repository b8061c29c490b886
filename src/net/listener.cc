#include "net/listener.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/ip/address.hpp>
#include <cerrno>
#include <utility>

#include "base/log.h"

namespace warmpath::net {
namespace {

constexpr Duration kAcceptBackoff = std::chrono::milliseconds(100);
constexpr int kBacklog = 1024;
// So that a storm of connections does not starve those already there.
constexpr int kAcceptsPerTurn = 64;

error_code LastError() {
  return {errno, boost::system::system_category()};
}

// A bound socket, or -1 with errno set.
int BoundSocket(const tcp::endpoint& endpoint, bool reuse_port) {
  const int fd =
      socket(endpoint.data()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
  if (fd < 0) return -1;
  const int on = 1;
  const bool bound =
      setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
      (!reuse_port || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0) &&
      bind(fd, endpoint.data(), static_cast<socklen_t>(endpoint.size())) == 0;
  if (bound) return fd;
  const int reason = errno;
  close(fd);
  errno = reason;
  return -1;
}

tl::unexpected<Error> CannotListen(const tcp::endpoint& endpoint) {
  return Fail(Code::kUnavailable, fmt::format("cannot listen on {}: {}", EndpointText(endpoint),
                                              LastError().message()));
}

// SO_REUSEPORT lets two processes of one user share a port silently; a plain bind tells.
Status CheckFree(const tcp::endpoint& endpoint) {
  const int probe = BoundSocket(endpoint, /*reuse_port=*/false);
  if (probe < 0) return CannotListen(endpoint);
  close(probe);
  return {};
}

}  // namespace

std::string EndpointText(const tcp::endpoint& endpoint) {
  return HostPort{endpoint.address().to_string(), endpoint.port()}.ToString();
}

Result<std::vector<std::shared_ptr<Listener>>> Listener::BindAll(const std::vector<Loop*>& loops,
                                                                 const HostPort& address) {
  error_code error;
  const asio::ip::address ip =
      asio::ip::make_address(address.host == "localhost" ? "127.0.0.1" : address.host, error);
  if (error) {
    return Fail(Code::kInvalidArgument,
                fmt::format("\"{}\" is not an IP address to listen on", address.host));
  }
  uint16_t port = address.port;
  if (port != 0) WP_RETURN_IF_ERROR(CheckFree({ip, port}));
  std::vector<std::shared_ptr<Listener>> listeners;
  for (Loop* loop : loops) {
    auto listener = std::make_shared<Listener>(*loop);
    WP_RETURN_IF_ERROR(listener->Bind({ip, port}));
    if (port == 0) port = listener->port();
    listeners.push_back(std::move(listener));
  }
  return listeners;
}

Listener::~Listener() {
  Close();
}

Status Listener::Bind(const tcp::endpoint& endpoint) {
  fd_ = BoundSocket(endpoint, /*reuse_port=*/true);
  if (fd_ < 0 || listen(fd_, kBacklog) != 0) return CannotListen(endpoint);
  return {};
}

uint16_t Listener::port() const {
  tcp::endpoint bound;
  auto size = static_cast<socklen_t>(bound.capacity());
  if (getsockname(fd_, bound.data(), &size) != 0) return 0;
  bound.resize(size);
  return bound.port();
}

void Listener::Serve(Accepted accepted) {
  if (fd_ < 0) return;
  accepted_ = std::move(accepted);
  watch_ = loop_.impl().reactor.Add(fd_);
  Watch();
}

void Listener::Close() {
  if (watch_ != nullptr) loop_.impl().reactor.Remove(std::exchange(watch_, nullptr));
  if (fd_ >= 0) close(std::exchange(fd_, -1));
  backoff_.Cancel();
  accepted_ = nullptr;
}

void Listener::Watch() {
  if (watch_ == nullptr) return;
  loop_.impl().reactor.Wait(*watch_, Reactor::kRead,
                            [self = shared_from_this()](const error_code&) {
                              if (self->watch_ != nullptr) self->AcceptAll();
                            });
}

void Listener::AcceptAll() {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    tcp::endpoint peer;
    auto size = static_cast<socklen_t>(peer.capacity());
    const int fd = accept4(fd_, peer.data(), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      peer.resize(size);
      accepted_(TcpSocket(loop_.impl().reactor, fd), peer);
      if (watch_ == nullptr) return;
      continue;
    }
    if (errno == EAGAIN) {
      watch_->ready[Reactor::kRead] = false;
      break;
    }
    if (errno == ECONNABORTED || errno == EINTR) continue;
    // Out of descriptors, most likely: waiting connections stay in the backlog meanwhile.
    WP_LOG(kError, "net", "accept failed", {"error", LastError().message()});
    backoff_ = loop_.After(kAcceptBackoff, [this] { Watch(); });
    return;
  }
  Watch();
}

}  // namespace warmpath::net
