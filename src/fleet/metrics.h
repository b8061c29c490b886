// Metrics of the fleet: llm-d's names and their deprecated twins, read from the newest snapshot
// when rendered, and our own. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "fleet/endpoint.h"
#include "fleet/inflight.h"

namespace warmpath::fleet {

struct FleetMetricsOptions {
  std::string pool = "default";  // label `name`
  Duration staleness{};          // older figures are left out
  Duration interval{};           // figures shown are at most this much older than the snapshot
  bool deprecated = true;        // inference_pool_*
  // Where no more are asked, none of many can be as fresh as `staleness` says; 0: no bound.
  uint32_t scrapes_per_second = 0;
};

class FleetMetrics {
 public:
  FleetMetrics(Registry& registry, FleetMetricsOptions options);

  // Sources and extractors are few and fixed.
  void CountPollError(const std::string& source) const;
  void CountExtractError(const std::string& source, const std::string& extractor) const;
  // Sets every gauge; series of endpoints that left are removed. `version` is another one when
  // membership or health changed: those show at once.
  void Refresh(const Snapshot& snapshot, const InflightLedger& ledger, uint64_t version,
               TimePoint now) EXCLUDES(mutex_);

 private:
  using Name = std::pair<std::string, std::string>;  // namespace, name

  void SetPool(const Snapshot& snapshot, TimePoint now) REQUIRES(mutex_);
  void SetInflight(const Snapshot& snapshot, const InflightLedger& ledger) REQUIRES(mutex_);
  void RemoveQueue(const std::string& endpoint);

  Registry& registry_;
  const FleetMetricsOptions options_;
  Mutex mutex_;
  // As last rendered.
  std::set<std::string> shown_ GUARDED_BY(mutex_);
  std::set<std::string> shown_queues_ GUARDED_BY(mutex_);
  std::set<Name> shown_inflight_ GUARDED_BY(mutex_);
  bool refreshed_ GUARDED_BY(mutex_) = false;
  uint64_t version_ GUARDED_BY(mutex_) = 0;
  TimePoint at_ GUARDED_BY(mutex_){};
};

}  // namespace warmpath::fleet
