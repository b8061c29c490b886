// Simulated engines in this process: vLLM's HTTP API, KV events and timing without a model. For
// `warmpath sim`, the demo and tests.
//
// Engines are spread over the given loops, each confined to one; they share a publisher thread.
// Idle engines cost nothing. Start and Stop may be called from any thread but a loop's.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "net/loop.h"
#include "sim/options.h"

namespace warmpath::sim {

class Simulator {
 public:
  struct Rank {
    std::string events;  // to connect a SUB to; "" when the engine publishes nothing
    std::string replay;  // "" = none
  };
  struct Endpoint {
    std::string url;  // http://127.0.0.1:8000; the loopback address where the engine listens on all
    std::vector<Rank> ranks;  // one per data parallel rank
  };

  // Binds every port of every engine, or nothing. Requests are served when the loops run. The loops
  // outlive the simulator.
  static Result<std::unique_ptr<Simulator>> Start(SimOptions options, net::LoopGroup& loops);
  ~Simulator();  // stops at once
  Simulator(const Simulator&) = delete;
  Simulator& operator=(const Simulator&) = delete;

  const std::vector<Endpoint>& endpoints() const;
  // What was started: names, limits and seed resolved.
  const SimOptions& options() const;

  // Accepts no more, lets running requests end until `deadline`, closes everything. Idempotent.
  void Stop(Duration deadline);

 private:
  struct Impl;
  explicit Simulator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmpath::sim
