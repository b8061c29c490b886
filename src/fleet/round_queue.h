// Which endpoint is asked next: at most so many rounds of questions under way, at most so many
// begun in a second, endpoints with traffic first. Plain data; confined to the fleet's loop.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>

#include "base/clock.h"
#include "fleet/endpoint.h"

namespace warmpath::fleet {

class RoundQueue {
 public:
  // `per_second`: rounds begun in any second; 0: no limit.
  RoundQueue(size_t max_rounds, uint32_t per_second);

  // True: the round begins, and Ended must follow. False: the endpoint waits until Next names it.
  // Asking again while it waits may only hurry it.
  bool Begin(EndpointId id, bool urgent, TimePoint now);
  void Ended();
  // Begins the round of who waited longest; of four, three go to the urgent ones, so that nobody
  // waits for ever. nullopt: nobody waits, or none may begin yet.
  std::optional<EndpointId> Next(TimePoint now);
  // When Next is worth asking again, should no round end before; nullopt: not until one ends.
  std::optional<TimePoint> NextAt() const;
  // It does not wait any more.
  void Forget(EndpointId id) { waiting_.erase(id); }
  void Clear();

  size_t waiting() const { return waiting_.size(); }

 private:
  bool Take(TimePoint now);
  std::optional<EndpointId> Pop(std::deque<EndpointId>& line, bool urgent);

  const size_t max_rounds_;
  const uint32_t per_second_;
  const double burst_;  // rounds that may begin at one time
  const double rate_;   // per second; with the burst no more than per_second in any second
  size_t rounds_ = 0;
  double tokens_;
  TimePoint filled_{};
  std::deque<EndpointId> urgent_, idle_;  // who waits, with leftovers
  std::unordered_map<EndpointId, bool>
      waiting_;  // whether urgent; an entry elsewhere is a leftover
  uint32_t turns_ = 0;
};

}  // namespace warmpath::fleet
