// Which series of an engine's /metrics carry its load, per engine type: llm-d's engineConfigs and
// the built-in table (vllm, sglang, trtllm-serve, triton-tensorrt-llm, triton). Plain data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace warmpath::fleet {

// "name" or "name{label=value,...}": series of that name that carry these labels.
struct MetricSpec {
  std::string name;  // "" = none
  std::vector<std::pair<std::string, std::string>> labels;
};
// Blanks around names and values are passed over; a value may stand in double quotes. An empty text
// is no series. At most kMaxMetricSpecBytes and kMaxMetricSpecLabels; errors quote the text.
inline constexpr size_t kMaxMetricSpecBytes = 2048;
inline constexpr size_t kMaxMetricSpecLabels = 16;
Result<MetricSpec> ParseMetricSpec(std::string_view text);

struct EngineMetrics {
  std::string engine;  // value of the endpoint's engine label
  MetricSpec queued;
  MetricSpec running;
  MetricSpec kv_usage;    // 0..1
  MetricSpec lora;        // vllm:lora_requests_info and its like
  MetricSpec cache_info;  // labels below hold the sizes
  std::string cache_block_size_label;
  std::string cache_num_blocks_label;
  MetricSpec cache_block_size;  // the sizes as values of their own
  MetricSpec cache_num_blocks;
  std::map<std::string, MetricSpec> custom;  // attribute key -> series
  std::string health_path = "/health";
};

// How engines are scraped (llm-d's metrics-data-source and core-metrics-extractor).
struct ScrapeConfig {
  std::string path = "/metrics";
  uint16_t port = 0;     // 0: the engine's own
  std::string scheme{};  // "http", "https"; "": that of the endpoint's URL
  std::string engine_label = "llm-d.ai/engine-type";
  std::string default_engine = "vllm";
  std::vector<EngineMetrics> engines;  // before the built-in ones; same name: replaces it
};
// The built-in table.
const std::vector<EngineMetrics>& BuiltInEngines();
// Of `config`, else of the built-in table; nullptr: neither knows it.
const EngineMetrics* FindEngine(const ScrapeConfig& config, std::string_view engine);

}  // namespace warmpath::fleet
