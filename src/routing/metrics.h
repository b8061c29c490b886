// Metrics of routing: llm-d's names (spec of llm_d_epp_*), and our own with the prefix warmpath_.
// Model labels come from clients, so distinct values are capped; past the cap they fold into
// "other". Thread-safe.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "base/metrics.h"
#include "base/mutex.h"

namespace warmpath::routing {

// Series of one model.
struct ModelMetrics {
  Counter requests;
  Histogram duration_seconds;
  Histogram ttft_seconds;
  Histogram input_tokens;
  Histogram cached_tokens;
  Gauge running;
};

class RoutingMetrics {
 public:
  explicit RoutingMetrics(Registry& registry);

  // Stable for the life of this object.
  const ModelMetrics& ForModel(const std::string& model) EXCLUDES(mutex_);
  void CountError(const std::string& model, const std::string& code) EXCLUDES(mutex_);
  // A request that could not be routed on exact tokens; `reason` is one of a closed set.
  void CountInexact(const std::string& reason);

  const Counter lookups;
  const Counter lookup_hits;
  const Histogram lookup_latency_seconds;
  const Histogram scheduler_seconds;
  const Histogram prepare_seconds;
  const Counter predictions_exact;
  const Counter predictions_over;
  const Counter predictions_under;
  const Counter token_parity_mismatches;

 private:
  // `model` itself while fewer than the cap are known, then "other".
  std::string Label(const std::string& model) REQUIRES(mutex_);

  Registry& registry_;
  Mutex mutex_;
  std::unordered_map<std::string, std::unique_ptr<ModelMetrics>> models_ GUARDED_BY(mutex_);
};

}  // namespace warmpath::routing
