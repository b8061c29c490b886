#include "fleet/round_queue.h"

#include <algorithm>

namespace warmpath::fleet {
namespace {

constexpr uint32_t kIdleTurn = 4;
// Timers fire in milliseconds: what falls due between two of them begins at once.
constexpr uint32_t kBurstsPerSecond = 20;

double BurstOf(uint32_t per_second) {
  return std::max<double>(1, per_second / kBurstsPerSecond);
}

}  // namespace

RoundQueue::RoundQueue(size_t max_rounds, uint32_t per_second)
    : max_rounds_(max_rounds),
      per_second_(per_second),
      burst_(BurstOf(per_second)),
      rate_(std::max<double>(1, per_second + 1 - burst_)),
      tokens_(burst_) {}

bool RoundQueue::Take(TimePoint now) {
  if (rounds_ >= max_rounds_) return false;
  if (per_second_ > 0) {
    if (filled_ != TimePoint{})
      tokens_ = std::min(burst_, tokens_ + std::max(0.0, ToSeconds(now - filled_)) * rate_);
    filled_ = now;
    if (tokens_ < 1) return false;
    tokens_ -= 1;
  }
  ++rounds_;
  return true;
}

bool RoundQueue::Begin(EndpointId id, bool urgent, TimePoint now) {
  const auto known = waiting_.find(id);
  if (known != waiting_.end()) {
    if (urgent && !known->second) {
      known->second = true;
      urgent_.push_back(id);
    }
    return false;
  }
  if (waiting_.empty() && Take(now)) return true;
  waiting_.emplace(id, urgent);
  (urgent ? urgent_ : idle_).push_back(id);
  return false;
}

void RoundQueue::Ended() {
  --rounds_;
}

std::optional<EndpointId> RoundQueue::Pop(std::deque<EndpointId>& line, bool urgent) {
  while (!line.empty()) {
    const EndpointId id = line.front();
    line.pop_front();
    const auto found = waiting_.find(id);
    if (found == waiting_.end() || found->second != urgent) continue;
    waiting_.erase(found);
    return id;
  }
  return std::nullopt;
}

std::optional<EndpointId> RoundQueue::Next(TimePoint now) {
  if (waiting_.empty() || !Take(now)) return std::nullopt;
  const bool idle_first = ++turns_ % kIdleTurn == 0;
  auto id = idle_first ? Pop(idle_, false) : Pop(urgent_, true);
  if (!id) id = idle_first ? Pop(urgent_, true) : Pop(idle_, false);
  return id;
}

std::optional<TimePoint> RoundQueue::NextAt() const {
  if (waiting_.empty() || rounds_ >= max_rounds_ || per_second_ == 0) return std::nullopt;
  return filled_ + FromSeconds(std::max(0.0, 1 - tokens_) / rate_) + Duration(1);
}

void RoundQueue::Clear() {
  urgent_.clear();
  idle_.clear();
  waiting_.clear();
}

}  // namespace warmpath::fleet
