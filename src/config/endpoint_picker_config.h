// llm-d's EndpointPickerConfig, every generation of it, as the typed options the modules declare.
//
// Strict: an unknown field, a wrong type or a dangling reference is an error of one line,
// `file:line: field.path: what, what is allowed`. What is valid but has no effect here is said in
// `warnings`. Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "fleet/engine_metrics.h"
#include "prompt/estimate.h"
#include "scheduling/scheduler.h"

namespace warmpath::config {

struct LoadedConfig {
  scheduling::SchedulerSpec scheduler;  // complete
  std::string kv_events_bind;           // kvEventsConfig.zmqEndpoint; "" when the file sets none
  std::optional<Duration> metrics_logging_interval;  // of the metrics beat; 0 = off
  // The file speaks the first generation's dialect (`mode: cache_tracking`), where engines connect
  // to tcp://*:5557 unless it says otherwise.
  bool legacy_cache_tracking = false;
  uint16_t kv_events_port =
      0;  // podDiscoveryConfig.socketPort, where engines publish; 0 when the file sets none
  uint16_t kv_replay_port = 0;        // podDiscoveryConfig.replaySocketPort; 0 = none
  std::vector<std::string> warnings;  // `line N: field.path: what`

  // dataLayer.discovery: llm-d's file-discovery plugin. "" = not configured.
  std::string discovery_file;
  bool watch_discovery_file = false;
  fleet::ScrapeConfig scrape;               // metrics-data-source, core-metrics-extractor
  std::optional<Duration> scrape_interval;  // metrics-data-source.interval
  // requestHandler.parsers; defaults when the file lists none.
  bool parse_openai = true;
  bool parse_vllmhttp = true;
  bool parse_passthrough = false;
  // inflight-load-producer.
  bool add_estimated_output_tokens = false;
  double output_ratio = 1.5;
  uint64_t max_estimated_output_tokens = 0;
  prompt::EstimateOptions estimate;  // token-producer.estimate
  bool speculative_indexing = true;  // precise-prefix-cache-producer; ours is on unless refused
};

struct LoadOptions {
  bool allow_experimental = false;  // --allow-experimental-plugins
};

Result<LoadedConfig> LoadConfigFile(const std::string& path, const LoadOptions& options = {});
// `source_name` stands for the file in errors.
Result<LoadedConfig> LoadConfigText(std::string_view text, std::string_view source_name,
                                    const LoadOptions& options = {});

// What `epp` runs without a file: queue 2, KV-cache utilization 2, prefix cache 3, highest score.
LoadedConfig DefaultEppConfig();

}  // namespace warmpath::config
