// One request on its way through the gateway: prepare (here or on the CPU pool), decide, send,
// relay, at most one retry elsewhere before the first byte of an answer. Confined to the loop of
// its exchange; kept alive by the callbacks it waits for.
//
//   Start -> [pool] -> Route -> (answer head) -> relaying -> done
//              ^ failure before the head, 502/503/504: Route again, excluding the endpoint, once
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateway/gateway.h"
#include "gateway/metrics.h"
#include "routing/api_errors.h"
#include "routing/usage_scanner.h"

namespace warmpath::gateway {

// What all requests of a gateway share.
struct GatewayShared {
  GatewayShared(GatewayOptions gateway_options, GatewayDeps gateway_deps);
  const GatewayOptions options;
  const GatewayDeps deps;
  const GatewayMetrics metrics;
};

class ProxiedRequest : public std::enable_shared_from_this<ProxiedRequest> {
 public:
  ProxiedRequest(std::shared_ptr<GatewayShared> shared, net::HttpClient& client,
                 std::shared_ptr<net::HttpExchange> exchange, prompt::Api api,
                 std::string request_id);
  ~ProxiedRequest();

  void Start();

 private:
  void PrepareOnPool(routing::RequestAttributes attributes);
  void PrepareByLoad(const char* note);
  void OnPrepared(Result<routing::Prepared> prepared);
  routing::RequestAttributes Attributes() const;
  // The client's body, asking for `target_model`.
  std::shared_ptr<const std::string> BodyFor(const std::string& target_model);
  void StopWaitingForTokens();
  void Route();
  void Send(routing::Outcome outcome);
  // True when the request is on its way to another endpoint. `declined`: the endpoint answered that
  // it cannot; otherwise its connection failed.
  bool TryElsewhere(const Counter& counter, const std::string& reason, bool declined);

  void ForgetRequest();
  void OnHead(net::HttpResponseHead head);
  void OnData(std::string_view bytes);
  void OnEnd();
  void OnError(net::CallFailure failure, const Error& error);
  void OnClientGone();

  void Refuse(const routing::ApiError& error);
  void Done();

  const std::shared_ptr<GatewayShared> shared_;
  net::HttpClient& client_;
  const std::shared_ptr<net::HttpExchange> exchange_;
  const prompt::Api api_;
  const std::string request_id_;
  std::shared_ptr<std::string> body_;
  std::shared_ptr<const std::string> rewritten_body_;  // made when an engine needs another model

  std::optional<routing::Prepared> prepared_;
  net::Timer decision_timer_;
  // False once nobody waits for the pool's result, so that a backlog of such work is passed over.
  // Nothing is published through it: relaxed is enough. Null when the pool was not asked.
  std::shared_ptr<std::atomic<bool>> tokens_wanted_;
  std::vector<fleet::EndpointId> tried_;
  std::optional<routing::Outcome> outcome_;
  std::unique_ptr<net::HttpCall> call_;
  std::optional<routing::UsageScanner> usage_;
  int status_ = 0;
  bool relaying_ = false;  // a byte of an answer may have reached the client
  bool on_pool_ = false;   // somebody there reads the body
  bool paused_ = false;
  bool done_ = false;
};

}  // namespace warmpath::gateway
