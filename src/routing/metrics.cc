#include "routing/metrics.h"

namespace warmpath::routing {
namespace {

constexpr size_t kMaxModels = 1000;

const std::vector<double> kLatencyBuckets = {
    .005, .025, .05, .1, .2, .4,  .6,  .8,  1,   1.25, 1.5, 2,   3,   4,    5,    6,    8,   10,
    15,   20,   30,  45, 60, 120, 180, 240, 300, 360,  480, 600, 900, 1200, 1800, 2700, 3600};
const std::vector<double> kTtftBuckets = {.005, .025, .05, .1, .2, .4, .6, .8, 1,  1.25, 1.5, 2,
                                          3,    4,    5,   6,  8,  10, 15, 20, 30, 45,   60,  120};
const std::vector<double> kFastBuckets = {.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1};
const std::vector<double> kTokenBuckets = {1,     8,      16,     32,     64,     128,   256,
                                           512,   1024,   2048,   4096,   8192,   16384, 32778,
                                           65536, 131072, 262144, 524288, 1048576};
// A lookup takes microseconds; the reference's buckets start at 5 ms and would show one bar.
const std::vector<double> kLookupBuckets = {1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4,
                                            2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2};

}  // namespace

RoutingMetrics::RoutingMetrics(Registry& registry)
    : lookups(registry.AddCounter("llm_d_epp_kv_cache_index_lookup_requests_total",
                                  "Prompts looked up in the KV-block index for routing.")),
      lookup_hits(registry.AddCounter(
          "llm_d_epp_kv_cache_index_lookup_hits_total",
          "Usable KV blocks of the endpoint with the longest match, summed over lookups.")),
      lookup_latency_seconds(
          registry.AddHistogram("llm_d_epp_kv_cache_index_lookup_latency_seconds",
                                "Time of one index lookup.", kLookupBuckets)),
      scheduler_seconds(registry.AddHistogram("llm_d_epp_scheduler_e2e_duration_seconds",
                                              "Time of one scheduling decision.", kFastBuckets)),
      prepare_seconds(registry.AddHistogram("warmpath_prepare_duration_seconds",
                                            "Time to parse and tokenize one request.",
                                            kFastBuckets)),
      predictions_exact(registry.AddCounter(
          "warmpath_predictions_total",
          "Responses by how the predicted cached tokens compare with those the engine reported.",
          {{"result", "exact"}})),
      predictions_over(registry.AddCounter("warmpath_predictions_total", "", {{"result", "over"}})),
      predictions_under(
          registry.AddCounter("warmpath_predictions_total", "", {{"result", "under"}})),
      token_parity_mismatches(registry.AddCounter(
          "warmpath_token_parity_mismatches_total",
          "Responses whose prompt_tokens differ from our own count of the prompt.")),
      registry_(registry) {}

std::string RoutingMetrics::Label(const std::string& model) {
  if (models_.contains(model) || models_.size() < kMaxModels) return model;
  return "other";
}

const ModelMetrics& RoutingMetrics::ForModel(const std::string& model) {
  MutexLock lock(mutex_);
  const std::string label = Label(model);
  auto& entry = models_[label];
  if (entry == nullptr) {
    const auto labels = {std::pair<std::string, std::string>{"model_name", label},
                         {"target_model_name", label},
                         {"fairness_id", "default-flow"},
                         {"priority", "0"}};
    entry = std::make_unique<ModelMetrics>(ModelMetrics{
        registry_.AddCounter("llm_d_epp_request_total", "Requests routed.", labels),
        registry_.AddHistogram("llm_d_epp_request_duration_seconds",
                               "Time from the request's arrival to the end of its answer.",
                               kLatencyBuckets, labels),
        registry_.AddHistogram(
            "llm_d_epp_request_ttft_seconds",
            "Time from the request's arrival to the first byte of the answer's body.", kTtftBuckets,
            labels),
        registry_.AddHistogram("llm_d_epp_request_input_tokens", "Prompt tokens of a request.",
                               kTokenBuckets, labels),
        registry_.AddHistogram("llm_d_epp_request_cached_tokens",
                               "Prompt tokens the engine reused, as it reported them.",
                               kTokenBuckets, labels),
        registry_.AddGauge("llm_d_epp_request_running", "Requests routed and not yet answered.",
                           labels)});
  }
  return *entry;
}

void RoutingMetrics::CountError(const std::string& model, const std::string& code) {
  std::string label;
  {
    MutexLock lock(mutex_);
    // Names that no endpoint serves never get a series of their own.
    label = models_.contains(model) ? model : "other";
  }
  registry_
      .AddCounter("llm_d_epp_request_error_total", "Requests that ended in an error.",
                  {{"model_name", label},
                   {"target_model_name", label},
                   {"fairness_id", "default-flow"},
                   {"priority", "0"},
                   {"error_code", code}})
      .Add();
}

void RoutingMetrics::CountInexact(const std::string& reason) {
  registry_
      .AddCounter("warmpath_requests_without_exact_tokens_total",
                  "Requests routed by load because exact tokens could not be had.",
                  {{"reason", reason}})
      .Add();
}

}  // namespace warmpath::routing
