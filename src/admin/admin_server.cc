#include "admin/admin_server.h"

#include <utility>

#include "admin/api.h"
#include "admin/gatekeeper.h"
#include "base/pool.h"
#include "net/http_server.h"

namespace warmpath::admin {
namespace {

constexpr Duration kStopDeadline = std::chrono::seconds(1);
constexpr size_t kInlineBodyBytes = 16 << 10;  // bodies above are worked on outside the loop
constexpr size_t kMaxQueued = 16;              // big bodies waiting; over it 503

void Respond(net::HttpExchange& exchange, net::HttpResponse answer) {
  exchange.Respond(answer.status, std::move(answer.headers), std::move(answer.body));
}

}  // namespace

struct AdminServer::Impl {
  Impl(net::Loop& loop, AdminAuthorize authorize, AdminDeps deps)
      : gate(std::make_shared<Gatekeeper>(loop, std::move(authorize))),
        api(std::make_shared<const Api>(std::move(deps))),
        pool("admin", 1, kMaxQueued) {}

  void Answer(const std::shared_ptr<net::HttpExchange>& exchange) {
    if (exchange->request().body.size() <= kInlineBodyBytes) {
      return Respond(*exchange, api->Handle(exchange->request()));
    }
    // The request is this task's until it answers; the exchange itself belongs to the loop.
    auto request = std::make_shared<net::HttpRequest>(std::move(exchange->request()));
    const bool taken = pool.TryRun([worker = api, exchange, request] {
      auto answer = std::make_shared<net::HttpResponse>(worker->Handle(*request));
      exchange->loop().Post([exchange, answer] { Respond(*exchange, std::move(*answer)); });
    });
    if (!taken) {
      exchange->Respond(503, {{"Content-Type", "application/json"}, {"Retry-After", "1"}},
                        ErrorBody(503, "too many big bodies at once; try again"));
    }
  }

  const std::shared_ptr<Gatekeeper> gate;
  std::shared_ptr<const Api> api;
  CpuPool pool;
  std::unique_ptr<net::HttpServer> server;
};

Result<std::unique_ptr<AdminServer>> AdminServer::Create(net::Loop& loop, AdminOptions options,
                                                         AdminDeps deps) {
  auto impl = std::make_unique<Impl>(loop, std::move(options.authorize), std::move(deps));
  net::HttpServerOptions server_options;
  server_options.max_body_bytes = options.max_body_bytes;
  server_options.max_connections = 1000;
  server_options.tls = options.tls;
  server_options.error_body = [](int status, std::string_view reason) {
    return ErrorBody(status, reason);
  };
  Impl* raw = impl.get();
  auto server = net::HttpServer::Listen(loop, options.listen, std::move(server_options),
                                        [raw](std::shared_ptr<net::HttpExchange> exchange) {
                                          raw->gate->Admit(
                                              exchange, [raw, exchange] { raw->Answer(exchange); });
                                        });
  if (!server) {
    const bool bad_host = server.error().code == Code::kInvalidArgument;
    return Fail(server.error(), bad_host ? "--metrics-host" : "--metrics-port");
  }
  impl->server = std::move(*server);
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(impl)));
}

AdminServer::AdminServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
AdminServer::~AdminServer() {
  Stop();
}

uint16_t AdminServer::port() const {
  return impl_->server->port();
}

void AdminServer::Stop() {
  impl_->gate->Close();
  impl_->pool.Stop();
  impl_->server->Stop(kStopDeadline);
}

}  // namespace warmpath::admin
