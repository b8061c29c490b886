// One simulated engine: vLLM's HTTP API in front of one core per data parallel rank.
//
// Made and destroyed on any thread while its loop does not run its work (Simulator sees to that);
// otherwise confined to its loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "sim/api_request.h"
#include "sim/api_response.h"
#include "sim/options.h"
#include "sim/publisher.h"
#include "sim/rank_driver.h"
#include "sim/sim_metrics.h"
#include "sim/text_model.h"

namespace warmpath::sim {

class EngineServer {
 public:
  // `streams`: the publisher's stream of each rank, empty when the engine publishes nothing;
  // `sources` their addresses. `options` is that of this engine (its own port). The publisher
  // outlives the engine.
  EngineServer(net::Loop& loop, SimOptions options, std::shared_ptr<const TextModel> text,
               Publisher* publisher, std::vector<size_t> streams,
               std::vector<Publisher::StreamAddress> sources);
  ~EngineServer();
  EngineServer(const EngineServer&) = delete;
  EngineServer& operator=(const EngineServer&) = delete;

  Status Listen();
  net::HttpServer& server() { return *server_; }
  // Any thread but the loop's. Accepts no more, waits until the last request ended or `deadline`
  // passed, closes everything.
  void StopServing(Duration deadline);
  // Loop. Ends every step and request.
  void StopSteps();

 private:
  using Exchange = std::shared_ptr<net::HttpExchange>;
  struct Route {
    std::string_view path;
    std::string_view method;  // "GET", "POST", or both
    void (EngineServer::*handle)(const Exchange&);
  };

  void Handle(const Exchange& exchange);
  void Completions(const Exchange& exchange);
  void Chat(const Exchange& exchange);
  void Generate(bool chat, const Exchange& exchange);
  void Models(const Exchange& exchange);
  void Tokenize(const Exchange& exchange);
  void Detokenize(const Exchange& exchange);
  void Empty(const Exchange& exchange);
  void Version(const Exchange& exchange);
  void Load(const Exchange& exchange);
  void Metrics(const Exchange& exchange);
  void ResetPrefixCache(const Exchange& exchange);
  void EventSources(const Exchange& exchange);
  void NotSleeping(const Exchange& exchange);
  void DebugKv(const Exchange& exchange);
  void Config(const Exchange& exchange);

  bool Authorized(const net::HttpRequest& request) const;
  void Respond(const Exchange& exchange, int status, std::string body,
               std::string_view content_type = "application/json");
  void Respond(const Exchange& exchange, const ApiError& error) {
    Respond(exchange, error.status, error.body);
  }
  net::Headers CommonHeaders(const Exchange& exchange, std::string_view content_type) const;
  // The rank a new request goes to: the pinned one, else the one with the least in flight, in turn
  // among equals.
  uint32_t PickRank(const Generation& request);

  net::Loop& loop_;
  const SimOptions options_;
  const std::shared_ptr<const TextModel> text_;
  Publisher* const publisher_;
  const std::vector<size_t> streams_;
  const std::vector<Publisher::StreamAddress> sources_;
  ApiContext api_;
  ResponseContext response_;
  std::vector<std::unique_ptr<RankDriver>> ranks_;
  std::unique_ptr<SimMetrics> metrics_;
  uint32_t next_rank_ = 0;
  int64_t started_ = 0;
  std::unique_ptr<net::HttpServer> server_;
};

}  // namespace warmpath::sim
