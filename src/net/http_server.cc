#include "net/http_server.h"

#include <unordered_set>
#include <utility>
#include <vector>

#include "net/listener.h"
#include "net/server_connection.h"

namespace warmpath::net {
namespace {

// The connections of one loop. Loop-confined.
class Site : public std::enable_shared_from_this<Site> {
 public:
  Site(std::shared_ptr<Listener> listener, std::shared_ptr<ServerShared> shared)
      : listener_(std::move(listener)), shared_(std::move(shared)) {}

  Loop& loop() { return listener_->loop(); }

  void Serve() {
    listener_->Serve([weak = weak_from_this()](TcpSocket socket, const tcp::endpoint& peer) {
      if (const auto self = weak.lock()) self->Add(std::move(socket), peer);
    });
  }

  void StopAccepting() {
    listener_->Close();
    const auto connections = connections_;
    for (const auto& connection : connections) connection->CloseIfIdle();
  }

  void CloseAll() {
    StopAccepting();
    const auto connections = std::exchange(connections_, {});
    for (const auto& connection : connections) connection->Close();
  }

 private:
  void Add(TcpSocket socket, const tcp::endpoint& peer) {
    if (shared_->connections.load() >= shared_->options.max_connections) return;
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    ++shared_->connections;
    auto slot = std::make_shared<std::weak_ptr<ServerConnection>>();
    auto connection = std::make_shared<ServerConnection>(
        loop(), std::move(socket), EndpointText(peer), shared_, [weak = weak_from_this(), slot] {
          const auto self = weak.lock();
          if (!self) return;
          --self->shared_->connections;
          self->connections_.erase(slot->lock());
        });
    *slot = connection;
    connections_.insert(connection);
    connection->Start();
  }

  const std::shared_ptr<Listener> listener_;
  const std::shared_ptr<ServerShared> shared_;
  std::unordered_set<std::shared_ptr<ServerConnection>> connections_;
};

class Server final : public HttpServer {
 public:
  Server(HostPort address, std::shared_ptr<ServerShared> shared,
         std::vector<std::shared_ptr<Site>> sites)
      : address_(std::move(address)), shared_(std::move(shared)), sites_(std::move(sites)) {
    for (const auto& site : sites_) {
      site->loop().Post([site] { site->Serve(); });
    }
  }
  ~Server() override { Stop(Duration::zero()); }

  uint16_t port() const override { return address_.port; }
  HostPort address() const override { return address_; }
  size_t connections() const override { return shared_->connections.load(); }

  void StopAccepting() override {
    if (shared_->draining.exchange(true)) return;
    for (const auto& site : sites_) {
      site->loop().Run([&site] { site->StopAccepting(); });
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
    for (const auto& site : sites_) {
      site->loop().Run([&site] { site->CloseAll(); });
    }
  }

 private:
  const HostPort address_;
  const std::shared_ptr<ServerShared> shared_;
  const std::vector<std::shared_ptr<Site>> sites_;
};

Result<std::unique_ptr<HttpServer>> ListenOn(const std::vector<Loop*>& loops,
                                             const HostPort& address, HttpServerOptions options,
                                             HttpServer::Handler handler) {
  WP_TRY(const auto listeners, Listener::BindAll(loops, address));
  auto shared = std::make_shared<ServerShared>();
  shared->options = std::move(options);
  shared->handler = std::move(handler);
  std::vector<std::shared_ptr<Site>> sites;
  for (const auto& listener : listeners) sites.push_back(std::make_shared<Site>(listener, shared));
  const HostPort bound{address.host, listeners.front()->port()};
  return std::make_unique<Server>(bound, std::move(shared), std::move(sites));
}

}  // namespace

void RecycleBody(Loop& loop, std::string body) {
  loop.impl().bodies.Give(std::move(body));
}

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
