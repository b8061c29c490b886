#include "net/listener.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <boost/asio/error.hpp>
#include <boost/asio/ip/address.hpp>
#include <utility>

#include "base/log.h"

namespace warmpath::net {
namespace {

using ReusePort = asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>;
constexpr Duration kAcceptBackoff = std::chrono::milliseconds(100);
constexpr int kBacklog = 1024;
// So that a storm of connections does not starve those already there.
constexpr int kAcceptsPerTurn = 64;

tl::unexpected<Error> CannotListen(const tcp::endpoint& endpoint, const error_code& error) {
  return Fail(Code::kUnavailable,
              fmt::format("cannot listen on {}: {}", EndpointText(endpoint), error.message()));
}

// SO_REUSEPORT lets two processes of one user share a port silently; a plain bind tells.
Status CheckFree(Loop& loop, const tcp::endpoint& endpoint) {
  TcpAcceptor probe(loop.impl().io);
  error_code error;
  probe.open(endpoint.protocol(), error);
  if (!error) probe.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) probe.bind(endpoint, error);
  if (error) return CannotListen(endpoint, error);
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
  if (port != 0) WP_RETURN_IF_ERROR(CheckFree(*loops.front(), {ip, port}));
  std::vector<std::shared_ptr<Listener>> listeners;
  for (Loop* loop : loops) {
    auto listener = std::make_shared<Listener>(*loop);
    WP_RETURN_IF_ERROR(listener->Bind({ip, port}));
    if (port == 0) port = listener->port();
    listeners.push_back(std::move(listener));
  }
  return listeners;
}

Status Listener::Bind(const tcp::endpoint& endpoint) {
  error_code error;
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor_.set_option(ReusePort(true), error);
  if (!error) acceptor_.non_blocking(true, error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(kBacklog, error);
  if (error) return CannotListen(endpoint, error);
  return {};
}

uint16_t Listener::port() const {
  error_code ignored;
  return acceptor_.local_endpoint(ignored).port();
}

void Listener::Serve(Accepted accepted) {
  accepted_ = std::move(accepted);
  Watch();
}

void Listener::Close() {
  error_code ignored;
  acceptor_.close(ignored);
  backoff_.Cancel();
  accepted_ = nullptr;
}

void Listener::Watch() {
  if (!acceptor_.is_open()) return;
  acceptor_.async_wait(TcpAcceptor::wait_read,
                       [self = shared_from_this()](const error_code& error) {
                         if (!error && self->acceptor_.is_open()) self->AcceptAll();
                       });
}

void Listener::AcceptAll() {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    TcpSocket socket(loop_.impl().io);
    tcp::endpoint peer;
    error_code error;
    acceptor_.accept(socket, peer, error);
    if (error == asio::error::would_block) break;
    if (error == asio::error::connection_aborted || error == asio::error::interrupted) continue;
    if (error) {
      // Out of descriptors, most likely: waiting connections stay in the backlog meanwhile.
      WP_LOG(kError, "net", "accept failed", {"error", error.message()});
      backoff_ = loop_.After(kAcceptBackoff, [this] { Watch(); });
      return;
    }
    socket.non_blocking(true, error);
    if (!error) accepted_(std::move(socket), peer);
  }
  Watch();
}

}  // namespace warmpath::net
