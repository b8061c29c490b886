#include "events/bound_connections.h"

#include <algorithm>

namespace warmpath::events {

namespace {
// The last messages of a connection may become visible some time after its end.
constexpr Duration kLastWords = std::chrono::milliseconds(100);
}  // namespace

bool BoundConnections::Counts(int connection, const BoundIdentity::Candidate& owner) {
  const auto [found, fresh] =
      speakers_.try_emplace(connection, Speaker{owner.endpoint, owner.incarnation});
  Speaker& speaker = found->second;
  if (fresh || speaker.endpoint == owner.endpoint) return true;
  const bool told_apart = !speaker.incarnation.empty() && !owner.incarnation.empty() &&
                          speaker.incarnation != owner.incarnation;
  if (told_apart && drained_ < owner.since + proof_) return false;
  speaker = {owner.endpoint, owner.incarnation};
  return true;
}

void BoundConnections::Closed(int connection, TimePoint now) {
  if (speakers_.contains(connection)) gone_.push_back({connection, now});
}

void BoundConnections::Drained(TimePoint now) {
  drained_ = now;
  const auto last =
      std::ranges::find_if(gone_, [&](const Gone& gone) { return now - gone.at < kLastWords; });
  for (auto gone = gone_.begin(); gone != last; ++gone) speakers_.erase(gone->connection);
  gone_.erase(gone_.begin(), last);
}

}  // namespace warmpath::events
