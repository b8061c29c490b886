// Runs one EngineCore in real time on a loop: begins steps, waits their duration, hands out tokens
// and publishes events. Idle it has no timer.
//
// Loop-confined.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "net/loop.h"
#include "sim/engine_core.h"

namespace warmpath::sim {

class RankDriver {
 public:
  using TokenHandler = std::function<void(const TokenOutput&)>;

  // `publish` gets the events of a step, before its tokens are handed out.
  RankDriver(net::Loop& loop, CoreOptions options,
             std::function<void(std::vector<CacheEvent>)> publish);

  // A request that finds the core idle starts a step at once, alone.
  uint64_t Submit(CoreRequest request, TokenHandler handler);
  // No token is handed out for it any more; its blocks are free within one step.
  void Abort(uint64_t request);
  // Between two steps; `done` tells whether the cache was reset.
  void Reset(bool preempt_running, std::function<void(bool)> done);
  void Stop();  // no further step

  const EngineCore& core() const { return core_; }
  // Between two steps.
  void SetTiming(const StepTiming& timing) { core_.SetTiming(timing); }
  // Requests submitted and not yet finished or aborted.
  size_t in_flight() const { return handlers_.size(); }

 private:
  void Kick();
  void Finish();

  net::Loop& loop_;
  EngineCore core_;
  std::function<void(std::vector<CacheEvent>)> publish_;
  std::unordered_map<uint64_t, TokenHandler> handlers_;
  std::vector<std::function<void()>> between_steps_;
  net::Timer timer_;
  TimePoint step_end_{};
  uint64_t next_id_ = 1;
  bool stopped_ = false;
};

}  // namespace warmpath::sim
