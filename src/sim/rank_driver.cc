#include "sim/rank_driver.h"

#include <algorithm>
#include <utility>

namespace warmpath::sim {
namespace {

// Timers fire late; a step may begin this much in the past so that lateness does not add up.
constexpr Duration kMaxCatchUp = std::chrono::milliseconds(20);

}  // namespace

RankDriver::RankDriver(net::Loop& loop, CoreOptions options,
                       std::function<void(std::vector<CacheEvent>)> publish)
    : loop_(loop), core_(std::move(options)), publish_(std::move(publish)) {}

uint64_t RankDriver::Submit(CoreRequest request, TokenHandler handler) {
  const uint64_t id = next_id_++;
  request.id = id;
  handlers_[id] = std::move(handler);
  const bool idle = !core_.has_work() && !core_.in_step();
  core_.Add(std::move(request));
  if (idle) {
    step_end_ = SystemClock().Now();
    Kick();
  }
  return id;
}

void RankDriver::Abort(uint64_t request) {
  if (handlers_.erase(request) > 0) core_.Abort(request);
}

void RankDriver::Reset(bool preempt_running, std::function<void(bool)> done) {
  auto reset = [this, preempt_running, done = std::move(done)] {
    done(core_.ResetPrefixCache(preempt_running));
  };
  if (core_.in_step()) {
    between_steps_.push_back(std::move(reset));
  } else {
    reset();
  }
}

void RankDriver::Stop() {
  stopped_ = true;
  timer_.Cancel();
  handlers_.clear();
}

void RankDriver::Kick() {
  if (stopped_ || core_.in_step() || !core_.has_work()) return;
  const TimePoint now = SystemClock().Now();
  step_end_ = std::max(step_end_, now - kMaxCatchUp) + core_.BeginStep();
  timer_ = loop_.After(std::max(step_end_ - now, Duration::zero()), [this] { Finish(); });
}

void RankDriver::Finish() {
  StepResult result = core_.FinishStep();
  if (!result.events.empty()) publish_(std::move(result.events));
  for (const TokenOutput& output : result.outputs) {
    auto it = handlers_.find(output.request);
    if (it == handlers_.end()) continue;
    if (!output.finished) {
      // A copy: the handler may abort its own request.
      const TokenHandler handler = it->second;
      handler(output);
    } else {
      const TokenHandler handler = std::move(it->second);
      handlers_.erase(it);
      handler(output);
    }
  }
  for (auto& work : std::exchange(between_steps_, {})) work();
  Kick();
}

}  // namespace warmpath::sim
