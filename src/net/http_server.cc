#include "net/http_server.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <boost/asio/error.hpp>
#include <boost/asio/ip/address.hpp>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/log.h"
#include "net/server_connection.h"

namespace warmpath::net {
namespace {

using ReusePort = asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>;
constexpr Duration kAcceptBackoff = std::chrono::milliseconds(100);

std::string EndpointText(const tcp::endpoint& endpoint) {
  return HostPort{endpoint.address().to_string(), endpoint.port()}.ToString();
}

// The listening socket of one loop and the connections accepted there. Loop-confined.
class Listener : public std::enable_shared_from_this<Listener> {
 public:
  Listener(Loop& loop, std::shared_ptr<ServerShared> shared)
      : loop_(loop), acceptor_(loop.impl().io), shared_(std::move(shared)) {}

  Loop& loop() { return loop_; }

  Status Bind(const tcp::endpoint& endpoint) {
    error_code error;
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.set_option(ReusePort(true), error);
    if (!error) acceptor_.non_blocking(true, error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(1024, error);
    if (error) {
      return Fail(Code::kUnavailable,
                  fmt::format("cannot listen on {}: {}", EndpointText(endpoint), error.message()));
    }
    return {};
  }

  uint16_t port() const {
    error_code ignored;
    return acceptor_.local_endpoint(ignored).port();
  }

  void Accept() {
    if (!acceptor_.is_open()) return;
    acceptor_.async_wait(TcpAcceptor::wait_read,
                         [self = shared_from_this()](const error_code& error) {
                           if (!error) self->AcceptAll();
                         });
  }

  void StopAccepting() {
    error_code ignored;
    acceptor_.close(ignored);
    backoff_.Cancel();
    const auto connections = connections_;
    for (const auto& connection : connections) connection->CloseIfIdle();
  }

  void CloseAll() {
    StopAccepting();
    const auto connections = std::exchange(connections_, {});
    for (const auto& connection : connections) connection->Close();
  }

 private:
  void AcceptAll() {
    // Bounded per turn, so that a storm of connections does not starve those already there.
    for (int i = 0; i < 64; ++i) {
      TcpSocket socket(loop_.impl().io);
      tcp::endpoint peer;
      error_code error;
      acceptor_.accept(socket, peer, error);
      if (error == asio::error::would_block) break;
      if (error == asio::error::connection_aborted || error == asio::error::interrupted) continue;
      if (error) {
        // Out of descriptors, most likely: waiting connections stay in the backlog meanwhile.
        WP_LOG(kError, "net", "accept failed", {"error", error.message()});
        backoff_ = loop_.After(kAcceptBackoff, [this] { Accept(); });
        return;
      }
      Add(std::move(socket), peer);
    }
    Accept();
  }

  void Add(TcpSocket socket, const tcp::endpoint& peer) {
    if (shared_->connections.load() >= shared_->options.max_connections) return;
    error_code error;
    socket.non_blocking(true, error);
    if (error) return;
    socket.set_option(tcp::no_delay(true), error);
    ++shared_->connections;
    auto slot = std::make_shared<std::weak_ptr<ServerConnection>>();
    auto connection = std::make_shared<ServerConnection>(
        loop_, std::move(socket), EndpointText(peer), shared_, [weak = weak_from_this(), slot] {
          const auto self = weak.lock();
          if (!self) return;
          --self->shared_->connections;
          self->connections_.erase(slot->lock());
        });
    *slot = connection;
    connections_.insert(connection);
    connection->Start();
  }

  Loop& loop_;
  TcpAcceptor acceptor_;
  const std::shared_ptr<ServerShared> shared_;
  Timer backoff_;
  std::unordered_set<std::shared_ptr<ServerConnection>> connections_;
};

class Server final : public HttpServer {
 public:
  Server(std::string host, std::shared_ptr<ServerShared> shared)
      : host_(std::move(host)), shared_(std::move(shared)) {}

  ~Server() override { Stop(Duration::zero()); }

  Status Bind(const std::vector<Loop*>& loops, uint16_t port) {
    error_code error;
    const asio::ip::address ip =
        asio::ip::make_address(host_ == "localhost" ? "127.0.0.1" : host_, error);
    if (error) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("\"{}\" is not an IP address to listen on", host_));
    }
    port_ = port;
    // A port of our own first: without SO_REUSEPORT semantics of others sneaking in, a taken port
    // is an error.
    if (port != 0) WP_RETURN_IF_ERROR(CheckFree(*loops.front(), {ip, port}));
    for (Loop* loop : loops) {
      auto listener = std::make_shared<Listener>(*loop, shared_);
      WP_RETURN_IF_ERROR(listener->Bind({ip, port_}));
      if (port_ == 0) port_ = listener->port();
      listeners_.push_back(std::move(listener));
    }
    for (const auto& listener : listeners_) {
      listener->loop().Post([listener] { listener->Accept(); });
    }
    return {};
  }

  uint16_t port() const override { return port_; }
  HostPort address() const override { return {host_, port_}; }
  size_t connections() const override { return shared_->connections.load(); }

  void StopAccepting() override {
    if (shared_->draining.exchange(true)) return;
    for (const auto& listener : listeners_) {
      listener->loop().Run([&listener] { listener->StopAccepting(); });
    }
  }

  void Stop(Duration deadline) override {
    StopAccepting();
    const TimePoint until = SystemClock().Now() + deadline;
    {
      MutexLock lock(shared_->mutex);
      while (shared_->requests > 0 && SystemClock().Now() < until) {
        shared_->changed.WaitUntil(shared_->mutex, until);
      }
    }
    for (const auto& listener : listeners_) {
      listener->loop().Run([&listener] { listener->CloseAll(); });
    }
  }

 private:
  // SO_REUSEPORT lets two processes of one user share a port silently; a plain bind tells.
  static Status CheckFree(Loop& loop, const tcp::endpoint& endpoint) {
    TcpAcceptor probe(loop.impl().io);
    error_code error;
    probe.open(endpoint.protocol(), error);
    if (!error) probe.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) probe.bind(endpoint, error);
    if (error) {
      return Fail(Code::kUnavailable,
                  fmt::format("cannot listen on {}: {}", EndpointText(endpoint), error.message()));
    }
    return {};
  }

  const std::string host_;
  uint16_t port_ = 0;
  const std::shared_ptr<ServerShared> shared_;
  std::vector<std::shared_ptr<Listener>> listeners_;
};

Result<std::unique_ptr<HttpServer>> ListenOn(const std::vector<Loop*>& loops,
                                             const HostPort& address, HttpServerOptions options,
                                             HttpServer::Handler handler) {
  auto shared = std::make_shared<ServerShared>();
  shared->options = std::move(options);
  shared->handler = std::move(handler);
  auto server = std::make_unique<Server>(address.host, std::move(shared));
  WP_RETURN_IF_ERROR(server->Bind(loops, address.port));
  return server;
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::Listen(LoopGroup& loops, const HostPort& address,
                                                       HttpServerOptions options, Handler handler) {
  std::vector<Loop*> all;
  for (size_t i = 0; i < loops.size(); ++i) all.push_back(&loops.at(i));
  return ListenOn(all, address, std::move(options), std::move(handler));
}

Result<std::unique_ptr<HttpServer>> HttpServer::Listen(Loop& loop, const HostPort& address,
                                                       HttpServerOptions options, Handler handler) {
  return ListenOn({&loop}, address, std::move(options), std::move(handler));
}

}  // namespace warmpath::net
