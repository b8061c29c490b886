#include "gateway/gateway.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/log.h"
#include "codec/json.h"
#include "gateway/forwarding.h"
#include "gateway/proxied_request.h"
#include "routing/foresight.h"
#include "routing/request_headers.h"

namespace warmpath::gateway {
namespace {

using net::HttpExchange;

class GatewayImpl final : public Gateway {
 public:
  GatewayImpl(net::LoopGroup& loops, GatewayOptions options, GatewayDeps deps)
      : loops_(loops),
        created_s_(std::chrono::duration_cast<std::chrono::seconds>(
                       deps.clock.WallNow().time_since_epoch())
                       .count()),
        shared_(std::make_shared<GatewayShared>(std::move(options), deps)) {}

  ~GatewayImpl() override { Stop(Duration::zero()); }

  Status Bind() {
    for (size_t i = 0; i < loops_.size(); ++i) {
      clients_.push_back(net::HttpClient::Create(loops_.at(i), shared_->options.client));
    }
    net::HttpServerOptions options = shared_->options.server;
    if (!options.error_body) {
      options.error_body = [shared = shared_](int status, std::string_view reason) {
        shared->metrics.CountAnswer(status);
        return routing::ServerErrorBody(status, reason);
      };
    }
    if (!options.error_headers) {
      options.error_headers = [](const net::Headers& request) {
        return net::Headers{{"x-request-id", routing::RequestIdOf(request)}};
      };
    }
    options.watch_body = [shared = shared_](const net::HttpRequest& request, uint64_t length) {
      return WatchBody(*shared, request, length);
    };
    options.watch_body_from = routing::Foresight::kFirstBytes;
    options.watch_body_after = routing::Foresight::kSlow;
    for (const net::HostPort& address : shared_->options.listen) {
      auto server = net::HttpServer::Listen(
          loops_, address, options,
          [this](std::shared_ptr<HttpExchange> exchange) { Handle(std::move(exchange)); });
      if (!server) return Fail(server.error(), "--listen");
      servers_.push_back(std::move(*server));
    }
    return {};
  }

  std::vector<net::HostPort> addresses() const override {
    std::vector<net::HostPort> all;
    for (const auto& server : servers_) all.push_back(server->address());
    return all;
  }

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
  net::HttpClient& ClientOf(const net::Loop& loop) {
    size_t i = 0;
    while (&loops_.at(i) != &loop) ++i;
    return *clients_[i];
  }

  static net::BodyWatcher WatchBody(const GatewayShared& shared, const net::HttpRequest& request,
                                    uint64_t length) {
    const prompt::Api api = prompt::ApiOfPath(request.path());
    if (request.method != "POST" || !shared.deps.director.Foresees(api)) return nullptr;
    const auto run = [pool = &shared.deps.pool](std::function<void()> work) {
      return pool->TryRunNow(std::move(work));
    };
    return [foresight = std::make_shared<routing::Foresight>(shared.deps.director, run, api,
                                                             length)](std::string_view begun) {
      foresight->Look(begun);
      return foresight->next();
    };
  }

  void Handle(std::shared_ptr<HttpExchange> exchange) {
    const net::HttpRequest& request = exchange->request();
    std::string id = routing::RequestIdOf(request.headers);
    const std::string_view path = request.path();
    if (path == "/v1/models") {
      if (request.method == "GET" || request.method == "HEAD") {
        Answer(*exchange, id, 200, {{"Content-Type", "application/json"}}, ModelList());
      } else {
        RefuseMethod(*exchange, id, "GET, HEAD");
      }
      return;
    }
    const prompt::Api api = prompt::ApiOfPath(path);
    if (api == prompt::Api::kOther) {
      const routing::ApiError error{404, fmt::format("unknown path: {} {}", request.method, path),
                                    "unknown_path", 0};
      Answer(*exchange, id, error.status, routing::ErrorHeaders(error), routing::ErrorBody(error));
    } else if (request.method != "POST") {
      RefuseMethod(*exchange, id, "POST");
    } else {
      net::HttpClient& client = ClientOf(exchange->loop());
      std::make_shared<ProxiedRequest>(shared_, client, std::move(exchange), api, std::move(id))
          ->Start();
    }
  }

  void RefuseMethod(HttpExchange& exchange, const std::string& id, const char* allowed) {
    const routing::ApiError error{
        405, fmt::format("method {} is not allowed here", exchange.request().method),
        "method_not_allowed", 0};
    net::Headers headers = routing::ErrorHeaders(error);
    headers.Add("Allow", allowed);
    Answer(exchange, id, error.status, std::move(headers), routing::ErrorBody(error));
  }

  void Answer(HttpExchange& exchange, const std::string& id, int status, net::Headers headers,
              std::string body) {
    headers.Set("x-request-id", id);
    shared_->metrics.CountAnswer(status);
    exchange.Respond(status, std::move(headers), std::move(body));
  }

  // What the engines serve, each model once, in OpenAI's list form.
  std::string ModelList() const {
    codec::JsonArray data;
    std::set<std::string> seen;
    const auto snapshot = shared_->deps.fleet.snapshot();
    for (const auto& endpoint : snapshot->endpoints) {
      if (endpoint->health == fleet::Health::kUnhealthy) continue;
      for (const fleet::ServedModel& model : endpoint->models) {
        if (!seen.insert(model.id).second) continue;
        codec::JsonObject entry;
        entry["id"] = model.id;
        entry["object"] = "model";
        entry["created"] = created_s_;
        entry["owned_by"] = "warmpath";
        entry["root"] = model.root.empty() ? model.id : model.root;
        entry["parent"] = model.is_adapter() ? codec::Json(model.parent) : codec::Json(nullptr);
        data.push_back(std::move(entry));
      }
    }
    codec::JsonObject list;
    list["object"] = "list";
    list["data"] = std::move(data);
    return codec::DumpJson(list);
  }

  net::LoopGroup& loops_;
  const int64_t created_s_;
  const std::shared_ptr<GatewayShared> shared_;
  std::vector<std::unique_ptr<net::HttpClient>> clients_;  // by loop
  std::vector<std::unique_ptr<net::HttpServer>> servers_;
  bool stopped_ = false;
};

}  // namespace

Result<std::unique_ptr<Gateway>> Gateway::Create(net::LoopGroup& loops, GatewayOptions options,
                                                 GatewayDeps deps) {
  auto gateway = std::make_unique<GatewayImpl>(loops, std::move(options), deps);
  WP_RETURN_IF_ERROR(gateway->Bind());
  return gateway;
}

}  // namespace warmpath::gateway
