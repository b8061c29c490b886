// The proxy beside an engine, passing everything through: every method and path goes to the engine
// on the same machine, bodies as they arrive in both directions, with backpressure. It is the
// address a router knows, so that the engine need not be reachable from elsewhere.
//
// Listens on every loop of the group, with one port for each data-parallel rank; a request stays on
// the loop it arrived on. Create, then start the loops; Stop drains. Requests that ask for prefill,
// encode or a KV cache elsewhere are answered 501.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "net/address.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/loop.h"

namespace warmpath::sidecar {

struct SidecarOptions {
  std::string host = "0.0.0.0";
  uint16_t port = 8000;  // of rank 0; rank i listens on port + i; 0 picks free ones
  std::string engine_host = "127.0.0.1";
  uint16_t engine_port = 8200;  // rank i is at engine_port + i
  bool engine_tls = false;      // client.tls verifies
  uint16_t data_parallel_size = 1;
  // This pod's address, as x-data-parallel-host-port names it; empty: only the port is compared.
  std::string pod_ip{};
  net::HttpServerOptions server = ServerDefaults();
  net::HttpClientOptions client = ClientDefaults();
  // Answers of engines have no deadline of ours but this: whoever waits for them has one.
  net::CallOptions upstream{.head_timeout = std::chrono::hours(24),
                            .idle_timeout = std::chrono::hours(24)};

  // Bodies of any size.
  static net::HttpServerOptions ServerDefaults();
  // Connections are kept for less than uvicorn's five seconds: what the engine closes while a
  // request is on its way to it would be lost.
  static net::HttpClientOptions ClientDefaults();
};

class Sidecar {
 public:
  // Binds every port. kInvalidArgument: ranks that exceed the port range.
  static Result<std::unique_ptr<Sidecar>> Create(net::LoopGroup& loops, SidecarOptions options);
  virtual ~Sidecar() = default;
  virtual std::vector<net::HostPort> addresses() const = 0;  // by rank
  // Requests begun and not yet answered. Any thread.
  virtual size_t in_flight() const = 0;
  // Refuses new connections, lets requests under way end until the deadline, then closes.
  // Idempotent.
  virtual void Stop(Duration deadline) = 0;
};

}  // namespace warmpath::sidecar
