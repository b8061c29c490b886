// Metrics of the fleet: llm-d's names and their deprecated twins, read from the newest snapshot
// when rendered, and our own. Thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "base/metrics.h"
#include "base/mutex.h"
#include "fleet/endpoint.h"

namespace warmpath::fleet {

class FleetMetrics {
 public:
  // `pool` is the value of the label `name`.
  FleetMetrics(Registry& registry, std::string pool);

  void CountPollError(const std::string& source) { poll_errors_(source).Add(); }
  // Sets every gauge from `snapshot`; series of endpoints that left are removed.
  void Refresh(const Snapshot& snapshot) EXCLUDES(mutex_);

 private:
  Registry& registry_;
  const std::string pool_;
  std::function<Counter(const std::string&)> poll_errors_;
  Mutex mutex_;
  std::set<std::string> shown_ GUARDED_BY(mutex_);  // endpoint names, as last rendered
};

}  // namespace warmpath::fleet
