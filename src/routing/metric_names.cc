#include "routing/metric_names.h"

#include <array>
#include <string>

namespace warmpath::routing {
namespace {

constexpr std::string_view kScopes =
    "plugins here get no data they did not ask for, so there is nothing to count";
constexpr std::string_view kMultimodal = "multimodal caches are not tracked";
constexpr std::string_view kProgramAware = "the program-aware fairness policy is not offered";
constexpr std::string_view kPredictor = "the latency predictor is not offered";
constexpr std::string_view kDisaggregation = "prefill/decode disaggregation is not offered yet";
constexpr std::string_view kFlowControl = "flow control is not offered yet";
constexpr std::string_view kNoDedup = "repeated removals are applied, which changes nothing";

constexpr MetricName kNames[] = {
    {"llm_d_epp_request_total", ""},
    {"llm_d_epp_request_error_total", ""},
    {"llm_d_epp_request_duration_seconds", ""},
    {"llm_d_epp_request_size_bytes", ""},
    {"llm_d_epp_response_size_bytes", ""},
    {"llm_d_epp_request_input_tokens", ""},
    {"llm_d_epp_request_cached_tokens", ""},
    {"llm_d_epp_request_output_tokens", ""},
    {"llm_d_epp_request_running", ""},
    {"llm_d_epp_request_ntpot_seconds", ""},
    {"llm_d_epp_request_ttft_seconds", ""},
    {"llm_d_epp_request_streaming_tpot_seconds", ""},
    {"llm_d_epp_request_streaming_itl_seconds", ""},
    {"llm_d_epp_average_kv_cache_utilization", ""},
    {"llm_d_epp_average_queue_size", ""},
    {"llm_d_epp_average_running_requests", ""},
    {"llm_d_epp_std_dev_kv_cache_utilization", ""},
    {"llm_d_epp_std_dev_queue_size", ""},
    {"llm_d_epp_std_dev_running_requests", ""},
    {"llm_d_epp_ready_endpoints", ""},
    {"llm_d_epp_per_endpoint_queue_size", ""},
    {"llm_d_epp_scheduler_e2e_duration_seconds", ""},
    {"llm_d_epp_scheduler_attempts_total", ""},
    {"llm_d_epp_plugin_duration_seconds", ""},
    {"llm_d_epp_plugin_data_scope_violations_total", kScopes},
    {"llm_d_epp_request_processing_duration_seconds", ""},
    {"llm_d_epp_response_processing_duration_seconds", ""},
    {"llm_d_epp_info", ""},
    {"llm_d_epp_model_rewrite_decisions_total", ""},
    {"llm_d_epp_datalayer_poll_errors_total", ""},
    {"llm_d_epp_datalayer_extract_errors_total", ""},
    {"llm_d_epp_prefix_indexer_size", ""},
    {"llm_d_epp_prefix_indexer_hit_ratio", ""},
    {"llm_d_epp_prefix_indexer_hit_bytes", ""},
    {"llm_d_epp_encoder_cache_queries_total", kMultimodal},
    {"llm_d_epp_encoder_cache_hits_total", kMultimodal},
    {"llm_d_epp_encoder_cache_hit_ratio", kMultimodal},
    {"llm_d_epp_program_aware_jains_fairness_index", kProgramAware},
    {"llm_d_epp_program_aware_avg_wait_time_milliseconds", kProgramAware},
    {"llm_d_epp_program_aware_attained_service_tokens", kProgramAware},
    {"llm_d_epp_inference_request_metric", kPredictor},
    {"llm_d_epp_request_predicted_ttft_seconds", kPredictor},
    {"llm_d_epp_request_predicted_tpot_seconds", kPredictor},
    {"llm_d_epp_request_ttft_prediction_duration_seconds", kPredictor},
    {"llm_d_epp_request_tpot_prediction_duration_seconds", kPredictor},
    {"llm_d_epp_request_slo_violation_total", kPredictor},
    {"llm_d_epp_disagg_decision_total", kDisaggregation},
    {"llm_d_epp_pd_decision_total", kDisaggregation},
    {"llm_d_epp_disaggregatedset_strict_header_no_match_total", kDisaggregation},
    {"llm_d_epp_disaggregatedset_revision_gating_share", kDisaggregation},
    {"llm_d_epp_inflight_requests", ""},
    {"llm_d_epp_inflight_tokens", ""},
    {"llm_d_epp_extproc_streams_inflight", ""},
    {"llm_d_epp_extproc_stream_duration_seconds", ""},
    {"llm_d_epp_extproc_streams_total", ""},
    {"llm_d_epp_flow_control_request_queue_duration_seconds", kFlowControl},
    {"llm_d_epp_flow_control_dispatch_cycle_duration_seconds", kFlowControl},
    {"llm_d_epp_flow_control_request_enqueue_duration_seconds", kFlowControl},
    {"llm_d_epp_flow_control_queue_size", kFlowControl},
    {"llm_d_epp_flow_control_queue_bytes", kFlowControl},
    {"llm_d_epp_flow_control_pool_saturation", kFlowControl},
    {"llm_d_epp_flow_control_stale_endpoints", kFlowControl},
    {"llm_d_epp_flow_control_capacity_utilization_requests", kFlowControl},
    {"llm_d_epp_flow_control_capacity_utilization_bytes", kFlowControl},
    {"llm_d_epp_flow_control_global_capacity_utilization_requests", kFlowControl},
    {"llm_d_epp_flow_control_global_capacity_utilization_bytes", kFlowControl},
    {"llm_d_epp_flow_control_requests_total", kFlowControl},
    {"llm_d_epp_flow_control_revocations_issued_total", kFlowControl},
    {"llm_d_epp_flow_control_revocations_total", kFlowControl},
    {"llm_d_epp_flow_control_reclaim_target", kFlowControl},
    {"llm_d_epp_flow_control_pending_reclaim", kFlowControl},
    {"llm_d_epp_flow_control_revocation_confirmation_seconds", kFlowControl},
    {"llm_d_epp_kv_cache_index_admissions_total", ""},
    {"llm_d_epp_kv_cache_index_evictions_total", ""},
    {"llm_d_epp_kv_cache_index_lookup_requests_total", ""},
    {"llm_d_epp_kv_cache_index_lookup_hits_total", ""},
    {"llm_d_epp_kv_cache_index_max_pod_hit_count_total", ""},
    {"llm_d_epp_kv_cache_index_lookup_latency_seconds", ""},
    {"llm_d_epp_kv_cache_events_dedup_removed_hashes_suppressed_total", kNoDedup},
    {"llm_d_epp_kv_cache_events_dedup_removed_hashes_forwarded_total", kNoDedup},
    {"llm_d_epp_kv_cache_events_stores_skipped_total", ""},
    {"llm_d_epp_kv_cache_events_removals_skipped_total", ""},
    {"llm_d_epp_kv_cache_events_active_subscribers", ""},
    {"llm_d_epp_kv_cache_events_pool_queue_depth", ""},
    {"llm_d_epp_kv_cache_events_pool_capacity", ""},
    {"llm_d_epp_kv_cache_events_subscriber_reconnections_total", ""},
    {"llm_d_epp_kv_cache_events_messages_received_total", ""},
    {"llm_d_epp_kv_cache_events_zmq_errors_total", ""},
};

// Labels the old families had, where they are fewer than today's or have other names.
enum class Kept {
  kModels,
  kModelsAndCode,
  kPool,
  kPoolAndPod,
  kPluginPoint,
  kPlugin,
  kAttempt,
  kRewrite,
  kBuild,
  kSource,
  kSourceAndExtractor,
  kPublisher,
  kZmq,
  kNone
};

Registry::KeptLabels LabelsOf(Kept kept) {
  const auto same = [](std::initializer_list<const char*> names) {
    Registry::KeptLabels labels;
    for (const char* name : names) labels.emplace_back(name, name);
    return labels;
  };
  switch (kept) {
    case Kept::kModels:
      return same({"model_name", "target_model_name"});
    case Kept::kModelsAndCode:
      return same({"model_name", "target_model_name", "error_code"});
    case Kept::kPool:
      return same({"name"});
    case Kept::kPoolAndPod:
      return {{"name", "name"}, {"model_server_endpoint", "model_server_pod"}};
    case Kept::kPluginPoint:
      return same({"extension_point", "plugin_type", "plugin_name"});
    case Kept::kPlugin:
      return same({"plugin_name", "plugin_type"});
    case Kept::kAttempt:
      return {{"status", "status"},
              {"target_model_name", "target_model_name"},
              {"endpoint_name", "pod_name"},
              {"namespace", "namespace"},
              {"port", "port"}};
    case Kept::kRewrite:
      return same({"model_rewrite_name", "model_name", "target_model"});
    case Kept::kBuild:
      return same({"commit", "build_ref"});
    case Kept::kSource:
      return same({"source_type"});
    case Kept::kSourceAndExtractor:
      return same({"source_type", "extractor_type"});
    case Kept::kPublisher:
      return same({"pod_identifier"});
    case Kept::kZmq:
      return same({"pod_identifier", "operation"});
    case Kept::kNone:
      break;
  }
  return {};
}

struct Twin {
  DeprecatedName names;
  Kept kept;
};

constexpr Twin kTwins[] = {
    {{"inference_objective_request_total", "llm_d_epp_request_total"}, Kept::kModels},
    {{"inference_objective_request_error_total", "llm_d_epp_request_error_total"},
     Kept::kModelsAndCode},
    {{"inference_objective_request_duration_seconds", "llm_d_epp_request_duration_seconds"},
     Kept::kModels},
    {{"inference_objective_request_sizes", "llm_d_epp_request_size_bytes"}, Kept::kModels},
    {{"inference_objective_response_sizes", "llm_d_epp_response_size_bytes"}, Kept::kModels},
    {{"inference_objective_input_tokens", "llm_d_epp_request_input_tokens"}, Kept::kModels},
    {{"inference_objective_output_tokens", "llm_d_epp_request_output_tokens"}, Kept::kModels},
    {{"inference_objective_prompt_cached_tokens", "llm_d_epp_request_cached_tokens"},
     Kept::kModels},
    {{"inference_objective_running_requests", "llm_d_epp_request_running"}, Kept::kModels},
    {{"inference_objective_normalized_time_per_output_token_seconds",
      "llm_d_epp_request_ntpot_seconds"},
     Kept::kModels},
    {{"inference_objective_request_ttft_seconds", "llm_d_epp_request_ttft_seconds"}, Kept::kModels},
    {{"inference_objective_request_tpot_seconds", "llm_d_epp_request_streaming_tpot_seconds"},
     Kept::kModels},
    {{"inference_pool_average_kv_cache_utilization", "llm_d_epp_average_kv_cache_utilization"},
     Kept::kPool},
    {{"inference_pool_average_queue_size", "llm_d_epp_average_queue_size"}, Kept::kPool},
    {{"inference_pool_average_running_requests", "llm_d_epp_average_running_requests"},
     Kept::kPool},
    {{"inference_pool_ready_pods", "llm_d_epp_ready_endpoints"}, Kept::kPool},
    {{"inference_pool_per_pod_queue_size", "llm_d_epp_per_endpoint_queue_size"}, Kept::kPoolAndPod},
    {{"inference_extension_scheduler_e2e_duration_seconds",
      "llm_d_epp_scheduler_e2e_duration_seconds"},
     Kept::kNone},
    {{"inference_extension_scheduler_attempts_total", "llm_d_epp_scheduler_attempts_total"},
     Kept::kAttempt},
    {{"inference_extension_plugin_duration_seconds", "llm_d_epp_plugin_duration_seconds"},
     Kept::kPluginPoint},
    {{"inference_extension_info", "llm_d_epp_info"}, Kept::kBuild},
    {{"inference_extension_prefix_indexer_size", "llm_d_epp_prefix_indexer_size"}, Kept::kPlugin},
    {{"inference_extension_prefix_indexer_hit_ratio", "llm_d_epp_prefix_indexer_hit_ratio"},
     Kept::kPlugin},
    {{"inference_extension_prefix_indexer_hit_bytes", "llm_d_epp_prefix_indexer_hit_bytes"},
     Kept::kPlugin},
    {{"inference_extension_model_rewrite_decisions_total",
      "llm_d_epp_model_rewrite_decisions_total"},
     Kept::kRewrite},
    {{"llm_d_inference_scheduler_datalayer_poll_errors_total",
      "llm_d_epp_datalayer_poll_errors_total"},
     Kept::kSource},
    {{"llm_d_inference_scheduler_datalayer_extract_errors_total",
      "llm_d_epp_datalayer_extract_errors_total"},
     Kept::kSourceAndExtractor},
    {{"kvcache_index_admissions_total", "llm_d_epp_kv_cache_index_admissions_total"}, Kept::kNone},
    {{"kvcache_index_evictions_total", "llm_d_epp_kv_cache_index_evictions_total"}, Kept::kNone},
    {{"kvcache_index_lookup_requests_total", "llm_d_epp_kv_cache_index_lookup_requests_total"},
     Kept::kNone},
    {{"kvcache_index_lookup_hits_total", "llm_d_epp_kv_cache_index_lookup_hits_total"},
     Kept::kNone},
    {{"kvcache_index_max_pod_hit_count_total", "llm_d_epp_kv_cache_index_max_pod_hit_count_total"},
     Kept::kNone},
    {{"kvcache_index_lookup_latency_seconds", "llm_d_epp_kv_cache_index_lookup_latency_seconds"},
     Kept::kNone},
    {{"kvcache_kvevents_active_subscribers", "llm_d_epp_kv_cache_events_active_subscribers"},
     Kept::kNone},
    {{"kvcache_kvevents_pool_queue_depth", "llm_d_epp_kv_cache_events_pool_queue_depth"},
     Kept::kNone},
    {{"kvcache_kvevents_pool_capacity", "llm_d_epp_kv_cache_events_pool_capacity"}, Kept::kNone},
    {{"kvcache_kvevents_subscriber_reconnections_total",
      "llm_d_epp_kv_cache_events_subscriber_reconnections_total"},
     Kept::kPublisher},
    {{"kvcache_kvevents_messages_received_total",
      "llm_d_epp_kv_cache_events_messages_received_total"},
     Kept::kPublisher},
    {{"kvcache_kvevents_zmq_errors_total", "llm_d_epp_kv_cache_events_zmq_errors_total"},
     Kept::kZmq},
};

constexpr auto kDeprecated = [] {
  std::array<DeprecatedName, std::size(kTwins)> names{};
  for (size_t i = 0; i < names.size(); ++i) names[i] = kTwins[i].names;
  return names;
}();

}  // namespace

std::span<const MetricName> MetricNames() {
  return kNames;
}

std::span<const DeprecatedName> DeprecatedNames() {
  return kDeprecated;
}

void AddDeprecatedNames(Registry& registry) {
  for (const Twin& twin : kTwins) {
    registry.AddAlias(std::string(twin.names.old_name), std::string(twin.names.name),
                      LabelsOf(twin.kept));
  }
}

}  // namespace warmpath::routing
