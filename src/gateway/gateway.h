// The embedded proxy: OpenAI-compatible HTTP in front of the engines, each request routed by the
// Director.
//
// Listens on every loop of the group; a request stays on the loop it arrived on, with that loop's
// upstream pool. Bodies travel byte for byte, streams as they arrive with backpressure; one retry
// elsewhere before the first byte of an answer. Create, then start the loops; Stop drains. The
// Director, Fleet and CpuPool outlive the gateway.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/pool.h"
#include "base/result.h"
#include "fleet/fleet.h"
#include "net/address.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "routing/director.h"

namespace warmpath::gateway {

struct GatewayOptions {
  std::vector<net::HostPort> listen{};
  net::HttpServerOptions server{};  // max_body_bytes is --max-request-body
  net::HttpClientOptions client{};
  net::CallOptions upstream{};  // deadlines towards the engines
  Duration decision_timeout =
      std::chrono::seconds(1);   // tokenizing longer than this: routed by load, counted
  bool expose_decision = false;  // x-warmpath-endpoint, x-warmpath-cached-tokens on answers
  std::string engine_api_key{};  // sent as a bearer token where the client sent no Authorization;
                                 // never logged
};

struct GatewayDeps {
  routing::Director& director;
  fleet::Fleet& fleet;
  CpuPool& pool;  // tokenizes large bodies off the loops; stopped before the Director goes
  Registry& metrics;
  const Clock& clock;
};

class Gateway {
 public:
  // Binds every address; port 0 picks a free one.
  static Result<std::unique_ptr<Gateway>> Create(net::LoopGroup& loops, GatewayOptions options,
                                                 GatewayDeps deps);
  virtual ~Gateway() = default;
  virtual std::vector<net::HostPort> addresses() const = 0;
  // Refuses new connections, lets requests under way end until the deadline, then closes.
  // Idempotent.
  virtual void Stop(Duration deadline) = 0;
};

}  // namespace warmpath::gateway
