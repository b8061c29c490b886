// Metrics of routing: llm-d's names (listed in metric_names.h), and our own with the prefix
// warmpath_. Thread-safe.
//
// Labels come from clients, so distinct values are capped: 1,000 models and 1,000 fairness ids,
// and 4,096 label sets altogether; past a cap, and where a value is no clean text, they fold into
// "other". Models that a rewrite names never fold.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "base/metrics.h"
#include "base/mutex.h"
#include "fleet/endpoint.h"
#include "routing/policies.h"

namespace warmpath::routing {

struct RequestLabels {
  std::string_view model;
  std::string_view target_model;
  std::string_view fairness_id;
  int32_t priority = 0;
};

// Series of one label set. Stable for the life of the RoutingMetrics.
struct RequestMetrics {
  std::string model;  // as labelled
  std::string target_model;
  std::string fairness_id;
  std::string priority;
  uint32_t target_number = 0;  // of target_model among all labels

  Counter requests;
  Gauge running;
  Histogram duration_seconds;
  Histogram request_bytes;
  Histogram response_bytes;
  Histogram input_tokens;
  Histogram cached_tokens;
  Histogram output_tokens;
  Histogram ntpot_seconds;  // duration / output tokens
  Histogram ttft_seconds_streaming;
  Histogram ttft_seconds_whole;
  Histogram tpot_seconds;  // streams: per output token after the first
  Histogram itl_seconds;   // streams: between chunks of the body
};

class RoutingMetrics {
 public:
  explicit RoutingMetrics(Registry& registry);

  // One hash lookup for labels seen before, none for those of the thread's last call.
  const RequestMetrics& For(const RequestLabels& labels) EXCLUDES(mutex_);
  // Names in rewrites get labels of their own from now on.
  void ProtectModels(const Policies& policies) EXCLUDES(mutex_);

  // `code`: the HTTP status the client got.
  void CountError(const RequestMetrics& request, int code);
  // A scheduling that ended with `endpoint`; null: with none.
  void CountAttempt(const RequestMetrics& request, const fleet::Endpoint* endpoint)
      EXCLUDES(mutex_);
  // A rewrite made request.target_model of request.model.
  void CountRewrite(const RequestMetrics& request, const std::string& rewrite);
  // A request that could not be routed on exact tokens; `reason` is one of a closed set.
  void CountInexact(const std::string& reason);

  const Counter lookups;
  const Counter lookup_hits;
  const Counter lookup_best;
  const Histogram lookup_latency_seconds;
  const Histogram scheduler_seconds;
  const Histogram request_processing_seconds;
  const Histogram response_processing_seconds;
  const Histogram prepare_seconds;
  const Counter foreseen_bytes;
  const Counter predictions_exact;
  const Counter predictions_over;
  const Counter predictions_under;
  const Counter token_parity_mismatches;

 private:
  std::string ModelLabel(std::string_view model) REQUIRES(mutex_);
  std::string FairnessLabel(std::string_view id) REQUIRES(mutex_);
  const RequestMetrics& MakeFor(const RequestLabels& labels) EXCLUDES(mutex_);

  Registry& registry_;
  const uint64_t number_;  // of this object, in this process
  SharedMutex mutex_;
  std::unordered_set<std::string> models_ GUARDED_BY(mutex_);
  std::unordered_set<std::string> protected_ GUARDED_BY(mutex_);
  std::unordered_set<std::string> fairness_ids_ GUARDED_BY(mutex_);
  std::unordered_map<std::string, uint32_t> target_numbers_ GUARDED_BY(mutex_);
  std::unordered_map<std::string, std::unique_ptr<RequestMetrics>> sets_ GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, Counter> attempts_ GUARDED_BY(mutex_);  // by target and endpoint
};

}  // namespace warmpath::routing
