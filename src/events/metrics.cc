#include "events/metrics.h"

namespace warmpath::events {

namespace {
constexpr char kPrefix[] = "llm_d_epp_kv_cache_events_";
}  // namespace

EventsMetrics::EventsMetrics(Registry& registry)
    : active_subscribers(registry.AddGauge(std::string(kPrefix) + "active_subscribers",
                                           "Publishers of KV events with a working connection")),
      queue_depth(registry.AddGauge(std::string(kPrefix) + "pool_queue_depth",
                                    "Live event messages waiting for a replay to end")),
      queue_capacity(registry.AddGauge(std::string(kPrefix) + "pool_capacity",
                                       "Event messages one socket queues before the engine drops")),
      silent_engines(registry.AddCounter("warmpath_events_silent_engines_total",
                                         "Engines found to get traffic and send no KV events")),
      registry_(registry) {
  // All there are (publisher.cc), before the first of each.
  StoresSkipped("other", "group");
  StoresSkipped("full", "block_size");
  RemovalsSkipped("other", "group");
}

std::string EventsMetrics::Bounded(const std::string& pod) {
  MutexLock lock(mutex_);
  if (pods_.contains(pod)) return pod;
  if (pods_.size() >= kMaxPods) return "other";
  pods_.insert(pod);
  return pod;
}

PublisherMetrics EventsMetrics::ForPublisher(const std::string& name) {
  const std::string pod = Bounded(name);
  const auto counter = [&](const std::string& metric, const std::string& help) {
    return registry_.AddCounter(metric, help, {{"pod_identifier", pod}});
  };
  // There before the first error, so that its rate can be alerted on.
  ZmqErrors(name, "connect");
  return PublisherMetrics{
      counter(std::string(kPrefix) + "messages_received_total", "Event messages received"),
      counter(std::string(kPrefix) + "subscriber_reconnections_total",
              "Connections made again after a loss"),
      counter("warmpath_events_gaps_total", "Sequence gaps seen on the wire"),
      counter("warmpath_events_replayed_batches_total", "Batches recovered by replay"),
      counter("warmpath_events_restarts_total", "Engine restarts recognised by the sequence"),
      counter("warmpath_events_replay_failures_total", "Replays without an end marker in time"),
      counter("warmpath_events_undecodable_batches_total", "Batches that could not be read at all"),
      counter("warmpath_events_bad_events_total",
              "Events that could not be read or used, one by one"),
      counter("warmpath_events_orphan_blocks_dropped_total", "Blocks whose parent never came"),
      counter("warmpath_events_skipped_fields_total",
              "Unknown fields and kinds of events passed over"),
  };
}

Counter EventsMetrics::ZmqErrors(const std::string& pod, const std::string& operation) {
  return registry_.AddCounter(std::string(kPrefix) + "zmq_errors_total",
                              "Transport errors by operation",
                              {{"pod_identifier", Bounded(pod)}, {"operation", operation}});
}

Counter EventsMetrics::Unassigned(const std::string& reason) {
  return registry_.AddCounter("warmpath_events_unassigned_messages_total",
                              "Messages on the bound socket that name no endpoint of ours",
                              {{"reason", reason}});
}

Counter EventsMetrics::StoresSkipped(const std::string& kind, const std::string& reason) {
  return registry_.AddCounter(std::string(kPrefix) + "stores_skipped_total",
                              "BlockStored events left out of the index",
                              {{"cache_kind", kind}, {"reason", reason}});
}

Counter EventsMetrics::RemovalsSkipped(const std::string& kind, const std::string& reason) {
  return registry_.AddCounter(std::string(kPrefix) + "removals_skipped_total",
                              "BlockRemoved events that concern no indexed block",
                              {{"cache_kind", kind}, {"reason", reason}});
}

}  // namespace warmpath::events
