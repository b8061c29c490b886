// Envoy's external processor and gRPC health on our own loops: the endpoint picker as a service.
//
// One ext_proc stream per HTTP request; each is an Exchange (exchange.h), a state machine without
// sockets. The Director, Fleet and CpuPool outlive the server. Create, then start the loops; Drain,
// then Stop.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/pool.h"
#include "base/result.h"
#include "fleet/fleet.h"
#include "net/address.h"
#include "net/grpc_server.h"
#include "net/loop.h"
#include "routing/director.h"

namespace warmpath::extproc {

// Which request bodies are looked into, by the parsers the configuration lists (openai, vllmhttp,
// passthrough); the path decides among them.
struct ParserSet {
  bool openai = true;
  bool vllmhttp = true;
  bool passthrough = false;  // whatever no other parser takes is routed by load, its answer unseen
};

struct ExtProcOptions {
  net::HostPort listen{"0.0.0.0", 9002};
  net::GrpcServerOptions grpc{};
  // Tokenizing longer than this: routed by load, counted. Envoy has no deadline of its own in
  // duplex mode.
  Duration decision_timeout = std::chrono::seconds(1);
  size_t max_request_body = size_t{64} << 20;  // over it: 413
  size_t max_buffered_bytes = size_t{512}
                              << 20;  // of all request bodies held at once; over it: 503
  bool use_subset_hint = true;        // --disable-endpoint-subset-filter
  bool emit_endpoint_scores = false;
  // The stream ends with the request phase: answers pass by unseen, but for those that plugins set
  // headers on.
  bool bypass_responses = false;
  bool conformance_headers = false;  // the Gateway API conformance suite's test headers
  bool stream_metrics = false;       // --enable-grpc-stream-metrics
  bool health_on_this_port = false;  // --health-checking: grpc.health.v1 here too
  ParserSet parsers{};
};

// What the health services answer from. Asked on loop threads; must not block.
struct HealthInputs {
  bool pool_synced = false;         // the set of endpoints is known (it may be empty)
  bool protocol_compatible = true;  // the parsers can read what the pool speaks
  bool plugins_ready = true;        // counts for "", readiness and the ext_proc service only
  bool draining = false;
  bool elects = false;   // leader election is on: then only "liveness" serves on a follower, and
  bool leading = false;  // unknown services are SERVICE_UNKNOWN
};

struct ExtProcDeps {
  routing::Director& director;
  fleet::Fleet& fleet;
  CpuPool& pool;
  Registry& metrics;
  const Clock& clock;
  std::function<HealthInputs()> health;
};

class ExtProcServer {
 public:
  // Binds at once; port 0 picks a free one.
  static Result<std::unique_ptr<ExtProcServer>> Create(net::LoopGroup& loops,
                                                       ExtProcOptions options, ExtProcDeps deps);
  virtual ~ExtProcServer() = default;
  virtual net::HostPort address() const = 0;
  virtual size_t connections() const = 0;
  // No new exchanges on the connections there are (they get a GOAWAY); those under way go on.
  virtual void Drain() = 0;
  // Exchanges under way go on until `deadline`, then everything is closed. Idempotent.
  virtual void Stop(Duration deadline) = 0;
};

// grpc.health.v1 on a port of its own: Check and List; Watch is unimplemented. Services: "",
// "readiness", "liveness", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor";
// other names are NOT_FOUND (SERVICE_UNKNOWN when leaders are elected). "liveness" stays SERVING
// while draining.
class HealthServer {
 public:
  static Result<std::unique_ptr<HealthServer>> Create(net::Loop& loop, const net::HostPort& listen,
                                                      std::function<HealthInputs()> health);
  virtual ~HealthServer() = default;
  virtual net::HostPort address() const = 0;
  virtual void Stop() = 0;
};

}  // namespace warmpath::extproc
