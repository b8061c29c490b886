#include "net/grpc_server.h"

#include <unordered_set>
#include <utility>
#include <vector>

#include "net/grpc_connection.h"
#include "net/listener.h"

namespace warmpath::net {
namespace {

// The connections of one loop. Loop-confined.
class Site : public std::enable_shared_from_this<Site> {
 public:
  Site(std::shared_ptr<Listener> listener, std::shared_ptr<GrpcShared> shared)
      : listener_(std::move(listener)), shared_(std::move(shared)) {}

  Loop& loop() { return listener_->loop(); }

  void Serve() {
    listener_->Serve([weak = weak_from_this()](TcpSocket socket, const tcp::endpoint& peer) {
      if (const auto self = weak.lock()) self->Add(std::move(socket), peer);
    });
  }

  void Drain() {
    const auto connections = connections_;
    for (const auto& connection : connections) connection->Drain();
  }

  void StopAccepting() { listener_->Close(); }

  void CloseAll() {
    const auto connections = std::exchange(connections_, {});
    for (const auto& connection : connections) connection->Close();
  }

 private:
  void Add(TcpSocket socket, const tcp::endpoint& peer) {
    if (shared_->connections.load() >= shared_->options.max_connections) return;
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    ++shared_->connections;
    auto slot = std::make_shared<std::weak_ptr<GrpcConnection>>();
    auto connection =
        std::make_shared<GrpcConnection>(loop(), std::move(socket), EndpointText(peer), shared_,
                                         [shared = shared_, weak = weak_from_this(), slot] {
                                           --shared->connections;
                                           if (const auto self = weak.lock())
                                             self->connections_.erase(slot->lock());
                                         });
    *slot = connection;
    connections_.insert(connection);
    connection->Start();
  }

  const std::shared_ptr<Listener> listener_;
  const std::shared_ptr<GrpcShared> shared_;
  std::unordered_set<std::shared_ptr<GrpcConnection>> connections_;
};

class Server final : public GrpcServer {
 public:
  Server(HostPort address, std::shared_ptr<GrpcShared> shared,
         std::vector<std::shared_ptr<Site>> sites)
      : address_(std::move(address)), shared_(std::move(shared)), sites_(std::move(sites)) {
    for (const auto& site : sites_) {
      site->loop().Post([site] { site->Serve(); });
    }
  }
  ~Server() override { Stop(Duration::zero()); }

  HostPort address() const override { return address_; }
  size_t connections() const override { return shared_->connections.load(); }
  size_t streams() const override { return shared_->streams.load(); }

  void Drain() override {
    for (const auto& site : sites_) {
      site->loop().Run([&site] { site->Drain(); });
    }
  }

  void Stop(Duration deadline) override {
    shared_->stopping = true;
    for (const auto& site : sites_) {
      site->loop().Run([&site] { site->StopAccepting(); });
    }
    Drain();
    const TimePoint until = SystemClock().Now() + deadline;
    {
      MutexLock lock(shared_->mutex);
      while (shared_->streams > 0 && SystemClock().Now() < until) {
        shared_->changed.WaitUntil(shared_->mutex, until);
      }
    }
    for (const auto& site : sites_) {
      site->loop().Run([&site] { site->CloseAll(); });
    }
  }

 private:
  const HostPort address_;
  const std::shared_ptr<GrpcShared> shared_;
  const std::vector<std::shared_ptr<Site>> sites_;
};

Result<std::unique_ptr<GrpcServer>> ListenOn(const std::vector<Loop*>& loops,
                                             const HostPort& address, GrpcServerOptions options,
                                             GrpcServer::Service service) {
  WP_TRY(const auto listeners, Listener::BindAll(loops, address));
  auto shared = std::make_shared<GrpcShared>();
  shared->options = std::move(options);
  shared->service = std::move(service);
  std::vector<std::shared_ptr<Site>> sites;
  for (const auto& listener : listeners) sites.push_back(std::make_shared<Site>(listener, shared));
  const HostPort bound{address.host, listeners.front()->port()};
  return std::make_unique<Server>(bound, std::move(shared), std::move(sites));
}

}  // namespace

Result<std::unique_ptr<GrpcServer>> GrpcServer::Listen(LoopGroup& loops, const HostPort& address,
                                                       GrpcServerOptions options, Service service) {
  std::vector<Loop*> all;
  for (size_t i = 0; i < loops.size(); ++i) all.push_back(&loops.at(i));
  return ListenOn(all, address, std::move(options), std::move(service));
}

Result<std::unique_ptr<GrpcServer>> GrpcServer::Listen(Loop& loop, const HostPort& address,
                                                       GrpcServerOptions options, Service service) {
  return ListenOn({&loop}, address, std::move(options), std::move(service));
}

}  // namespace warmpath::net
