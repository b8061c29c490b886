// Metrics of event ingestion, under llm-d's names where they exist (spec: kv_cache_events_*), else
// warmpath_*.
//
// Handles are resolved per publisher once. Thread-safe. The label pod_identifier takes at most
// kMaxPods values, then "other".
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "base/metrics.h"
#include "base/mutex.h"

namespace warmpath::events {

struct PublisherMetrics {
  Counter messages;
  Counter reconnections;
  Counter gaps;
  Counter replayed;
  Counter restarts;
  Counter replay_failures;
  Counter undecodable;      // batches
  Counter bad_events;       // events inside good batches
  Counter orphans_dropped;  // blocks
  Counter skipped_fields;
};

class EventsMetrics {
 public:
  static constexpr size_t kMaxPods = 1024;

  explicit EventsMetrics(Registry& registry);

  PublisherMetrics ForPublisher(const std::string& pod) EXCLUDES(mutex_);
  Counter ZmqErrors(const std::string& pod, const std::string& operation) EXCLUDES(mutex_);
  // Messages on the bound socket that belong to no endpoint.
  Counter Unassigned(const std::string& reason);
  Counter StoresSkipped(const std::string& kind, const std::string& reason);
  Counter RemovalsSkipped(const std::string& kind, const std::string& reason);

  Gauge active_subscribers;
  Gauge queue_depth;
  Gauge queue_capacity;
  Counter silent_engines;  // reported for traffic without stores

 private:
  std::string Bounded(const std::string& pod) EXCLUDES(mutex_);

  Registry& registry_;
  Mutex mutex_;
  std::set<std::string> pods_ GUARDED_BY(mutex_);
};

}  // namespace warmpath::events
