#include "sidecar/sidecar.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <optional>
#include <utility>

#include "base/log.h"
#include "sidecar/control_headers.h"
#include "sidecar/relay.h"

namespace warmpath::sidecar {
namespace {

using net::HttpExchange;

void Refuse(HttpExchange& exchange, int status, std::string_view code, const std::string& message) {
  WP_LOG(kDebug, "sidecar", "request refused", {"status", status}, {"code", code});
  exchange.Respond(status, {{"Content-Type", "application/json"}},
                   ErrorBody(status, message, code));
}

class SidecarImpl final : public Sidecar {
 public:
  SidecarImpl(net::LoopGroup& loops, SidecarOptions options)
      : loops_(loops), options_(std::move(options)) {}
  ~SidecarImpl() override { Stop(Duration::zero()); }

  Status Bind() {
    constexpr int kLastPort = std::numeric_limits<uint16_t>::max();
    const int last =
        std::max(options_.port, options_.engine_port) + options_.data_parallel_size - 1;
    if (options_.data_parallel_size == 0 || last > kLastPort) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("--data-parallel-size {}: ports would exceed {}",
                              options_.data_parallel_size, kLastPort));
    }
    for (size_t i = 0; i < loops_.size(); ++i) {
      clients_.push_back(net::HttpClient::Create(loops_.at(i), options_.client));
    }
    net::HttpServerOptions server_options = options_.server;
    server_options.stream_bodies = true;
    for (uint16_t rank = 0; rank < options_.data_parallel_size; ++rank) {
      const auto port = static_cast<uint16_t>(options_.port == 0 ? 0 : options_.port + rank);
      auto server = net::HttpServer::Listen(loops_, {options_.host, port}, server_options,
                                            [this, rank](std::shared_ptr<HttpExchange> exchange) {
                                              Handle(rank, std::move(exchange));
                                            });
      if (!server) return Fail(server.error(), "--port");
      servers_.push_back(std::move(*server));
    }
    return {};
  }

  std::vector<net::HostPort> addresses() const override {
    std::vector<net::HostPort> all;
    for (const auto& server : servers_) all.push_back(server->address());
    return all;
  }

  size_t in_flight() const override { return in_flight_->load(); }

  void Stop(Duration deadline) override {
    if (std::exchange(stopped_, true)) return;
    const TimePoint until = SystemClock().Now() + deadline;
    for (const auto& server : servers_) server->StopAccepting();
    for (const auto& server : servers_) {
      server->Stop(std::max(Duration::zero(), until - SystemClock().Now()));
    }
    for (size_t i = 0; i < clients_.size(); ++i) {
      loops_.at(i).Run([this, i] { clients_[i].reset(); });
    }
  }

 private:
  void Handle(uint16_t rank, std::shared_ptr<HttpExchange> exchange) {
    const net::Headers& headers = exchange->request().headers;
    if (const std::string_view name = DisaggregationHeader(headers); !name.empty()) {
      Refuse(*exchange, 501, "disaggregation_not_supported",
             fmt::format("the header {} asks for prefill, encoding or a KV cache on another "
                         "engine; this sidecar passes requests to its own engine only. Remove the "
                         "prefill profile from the router's configuration",
                         name));
      return;
    }
    if (const std::string protocol = UpgradeOf(headers); !protocol.empty()) {
      Refuse(*exchange, 501, "upgrade_not_supported",
             fmt::format("switching to another protocol ({}) is not supported", protocol));
      return;
    }
    if (options_.data_parallel_size > 1 && rank == 0) {
      if (const auto wanted = headers.Get(kDataParallelHeader); wanted && !wanted->empty()) {
        const auto asked = RankOf(*wanted);
        if (!asked) {
          Refuse(*exchange, 400, "unknown_data_parallel_rank",
                 fmt::format("{}: no data-parallel rank of this pod listens there",
                             kDataParallelHeader));
          return;
        }
        rank = *asked;
      }
    }
    net::HttpClient& client = ClientOf(exchange->loop());
    net::Url engine;
    engine.tls = options_.engine_tls;
    engine.address = {options_.engine_host, static_cast<uint16_t>(options_.engine_port + rank)};
    std::make_shared<Relay>(std::move(exchange), std::move(engine), in_flight_)
        ->Start(client, options_.upstream);
  }

  std::optional<uint16_t> RankOf(std::string_view host_port) const {
    const auto address = net::ParseHostPort(host_port);
    if (!address || (!options_.pod_ip.empty() && address->host != options_.pod_ip)) {
      return std::nullopt;
    }
    for (size_t rank = 0; rank < servers_.size(); ++rank) {
      if (servers_[rank]->port() == address->port) return static_cast<uint16_t>(rank);
    }
    return std::nullopt;
  }

  net::HttpClient& ClientOf(const net::Loop& loop) {
    size_t i = 0;
    while (&loops_.at(i) != &loop) ++i;
    return *clients_[i];
  }

  net::LoopGroup& loops_;
  const SidecarOptions options_;
  const std::shared_ptr<std::atomic<size_t>> in_flight_ = std::make_shared<std::atomic<size_t>>(0);
  std::vector<std::unique_ptr<net::HttpClient>> clients_;  // by loop
  std::vector<std::unique_ptr<net::HttpServer>> servers_;  // by rank
  bool stopped_ = false;
};

}  // namespace

net::HttpServerOptions SidecarOptions::ServerDefaults() {
  net::HttpServerOptions options;
  options.max_body_bytes = std::numeric_limits<size_t>::max();
  options.stream_bodies = true;
  // Clients are proxies that keep connections; ours must not be the side that closes first.
  options.idle_timeout = std::chrono::minutes(10);
  options.write_timeout = std::chrono::minutes(10);
  options.body_timeout = std::chrono::minutes(10);
  return options;
}

net::HttpClientOptions SidecarOptions::ClientDefaults() {
  net::HttpClientOptions options;
  options.idle_pool_timeout = std::chrono::seconds(4);
  return options;
}

Result<std::unique_ptr<Sidecar>> Sidecar::Create(net::LoopGroup& loops, SidecarOptions options) {
  auto sidecar = std::make_unique<SidecarImpl>(loops, std::move(options));
  WP_RETURN_IF_ERROR(sidecar->Bind());
  return sidecar;
}

}  // namespace warmpath::sidecar
