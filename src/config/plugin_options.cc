#include <fmt/format.h>

#include <algorithm>

#include "config/loading.h"
#include "config/schema.h"

namespace warmpath::config {
namespace {

using codec::Json;
using scheduling::BoolParameter;
using scheduling::NumberParameter;
using scheduling::Parameter;
using scheduling::StringParameter;

Result<uint16_t> ReadPort(const Loading& loading, const Path& path, const Json& holder,
                          std::string_view name, uint16_t fallback) {
  if (Parameter(holder, name) == nullptr) return fallback;
  const double port = NumberParameter(holder, name, 0);
  if (port <= 0) return uint16_t{0};
  if (port > 65535)
    return loading.document.Wrong(Below(path, name), "must be a port, at most 65535");
  return static_cast<uint16_t>(port);
}

// All generations keep the same names, at two depths.
Status ReadKvOptions(Loading& loading, const DeclaredPlugin& plugin) {
  const Path path = Below(plugin.path, "parameters");
  const Json& parameters = plugin.parameters;
  LoadedConfig& config = loading.config;
  if (StringParameter(parameters, "mode", "") == "cache_tracking")
    config.legacy_cache_tracking = true;
  if (const auto interval = scheduling::DurationParameter(
          parameters, "indexerConfig.kvBlockIndexConfig.metricsLoggingInterval")) {
    config.metrics_logging_interval = *interval;
  }
  const Path index = Below(Below(path, "indexerConfig"), "kvBlockIndexConfig");
  for (const char* backend : {"redisConfig", "valkeyConfig"}) {
    if (Parameter(parameters, fmt::format("indexerConfig.kvBlockIndexConfig.{}", backend)))
      loading.Warn(Below(index, backend),
                   "has no effect: the index is in process (--index-memory)");
  }
  if (Parameter(parameters, "indexerConfig.tokenizersPoolConfig") != nullptr) {
    loading.Warn(Below(Below(path, "indexerConfig"), "tokenizersPoolConfig"),
                 "deprecated, and has no effect: prompts are tokenized in process; the tokenizer "
                 "comes from --tokenizer");
  }
  if (Parameter(parameters, "speculativeIndexing") != nullptr &&
      !BoolParameter(parameters, "speculativeIndexing", true)) {
    config.speculative_indexing = false;
  }
  const Json* events = Parameter(parameters, "kvEventsConfig");
  if (events == nullptr) return {};
  const Path events_path = Below(path, "kvEventsConfig");
  if (const std::string bind = StringParameter(*events, "zmqEndpoint", ""); !bind.empty()) {
    const Path bind_path = Below(events_path, "zmqEndpoint");
    if (!bind.starts_with("tcp://")) {
      return loading.document.Wrong(
          bind_path, fmt::format("'{}' must read tcp://HOST:PORT or tcp://*:PORT", bind));
    }
    if (!config.kv_events_bind.empty() && config.kv_events_bind != bind) {
      return loading.document.Wrong(
          bind_path, fmt::format("'{}' differs from '{}' given before; one socket is bound", bind,
                                 config.kv_events_bind));
    }
    config.kv_events_bind = bind;
  }
  const Json* pods = Parameter(*events, "podDiscoveryConfig");
  if (pods == nullptr) return {};
  const Path pods_path = Below(events_path, "podDiscoveryConfig");
  WP_TRY(config.kv_events_port,
         ReadPort(loading, pods_path, *pods, "socketPort", config.kv_events_port));
  WP_TRY(config.kv_replay_port,
         ReadPort(loading, pods_path, *pods, "replaySocketPort", config.kv_replay_port));
  return {};
}

Status ReadScraping(Loading& loading, const DeclaredPlugin& plugin) {
  const Path path = Below(plugin.path, "parameters");
  fleet::ScrapeConfig& scrape = loading.config.scrape;
  if (const std::string where = StringParameter(plugin.parameters, "path", ""); !where.empty()) {
    if (!where.starts_with("/"))
      return loading.document.Wrong(Below(path, "path"), "must start with '/'");
    scrape.path = where;
  }
  WP_TRY(scrape.port, ReadPort(loading, path, plugin.parameters, "port", scrape.port));
  if (const auto interval = scheduling::DurationParameter(plugin.parameters, "interval");
      interval && interval->count() > 0) {
    loading.config.scrape_interval = *interval;
  }
  scrape.scheme = StringParameter(plugin.parameters, "scheme", scrape.scheme);
  for (const char* name : {"caCertPath", "clientCertPath", "clientKeyPath"}) {
    if (StringParameter(plugin.parameters, name, "").empty()) continue;
    loading.Warn(Below(path, name), "has no effect");
  }
  return {};
}

// `field` of an engine; nothing where it is not given.
Status ReadSpec(const Loading& loading, const Path& path, const Json& engine,
                std::string_view field, fleet::MetricSpec& out) {
  const std::string text = StringParameter(engine, field, "");
  if (text.empty()) return {};
  auto spec = fleet::ParseMetricSpec(text);
  if (!spec) return loading.document.Wrong(Below(path, field), spec.error().message);
  out = std::move(*spec);
  return {};
}

Result<fleet::EngineMetrics> ReadEngine(const Loading& loading, const Path& path,
                                        const Json& engine) {
  fleet::EngineMetrics metrics;
  metrics.engine = StringParameter(engine, "name", "");
  if (metrics.engine.empty())
    return loading.document.Wrong(Below(path, "name"), "must not be empty");
  const std::pair<const char*, fleet::MetricSpec*> specs[] = {
      {"queuedRequestsSpec", &metrics.queued},
      {"runningRequestsSpec", &metrics.running},
      {"kvUsageSpec", &metrics.kv_usage},
      {"loraSpec", &metrics.lora},
      {"cacheInfoSpec", &metrics.cache_info},
      {"cacheBlockSizeSpec", &metrics.cache_block_size},
      {"cacheNumBlocksSpec", &metrics.cache_num_blocks}};
  for (const auto& [field, spec] : specs)
    WP_RETURN_IF_ERROR(ReadSpec(loading, path, engine, field, *spec));
  metrics.cache_block_size_label = StringParameter(engine, "cacheBlockSizeLabelName", "");
  metrics.cache_num_blocks_label = StringParameter(engine, "cacheNumBlocksLabelName", "");
  const Json* custom = Parameter(engine, "customMetrics");
  for (size_t i = 0; custom != nullptr && i < custom->get_array().size(); ++i) {
    const Json& entry = custom->get_array()[i];
    const Path here = Below(Below(path, "customMetrics"), i);
    const std::string key = StringParameter(entry, "attributeKey", "");
    if (key.empty())
      return loading.document.Wrong(Below(here, "attributeKey"), "must not be empty");
    if (metrics.custom.contains(key)) {
      return loading.document.Wrong(Below(here, "attributeKey"),
                                    fmt::format("'{}' is given twice", key));
    }
    WP_RETURN_IF_ERROR(ReadSpec(loading, here, entry, "metricSpec", metrics.custom[key]));
  }
  return metrics;
}

Status ReadEngines(Loading& loading, const DeclaredPlugin& plugin) {
  const Path path = Below(plugin.path, "parameters");
  fleet::ScrapeConfig& scrape = loading.config.scrape;
  WP_RETURN_IF_ERROR(loading.document.Check(path, MetricsExtractorSchema(), plugin.parameters));
  scrape.engine_label = StringParameter(plugin.parameters, "engineLabelKey", scrape.engine_label);
  scrape.default_engine =
      StringParameter(plugin.parameters, "defaultEngine", scrape.default_engine);
  const Json* engines = Parameter(plugin.parameters, "engineConfigs");
  for (size_t i = 0; engines != nullptr && i < engines->get_array().size(); ++i) {
    const Path here = Below(Below(path, "engineConfigs"), i);
    WP_TRY(fleet::EngineMetrics metrics, ReadEngine(loading, here, engines->get_array()[i]));
    for (const fleet::EngineMetrics& other : scrape.engines) {
      if (other.engine != metrics.engine) continue;
      return loading.document.Wrong(Below(here, "name"),
                                    fmt::format("duplicate engine '{}'", metrics.engine));
    }
    scrape.engines.push_back(std::move(metrics));
  }
  if (fleet::FindEngine(scrape, scrape.default_engine) == nullptr) {
    return loading.document.Wrong(
        Below(path, "defaultEngine"),
        fmt::format("'{}' is neither built in nor under engineConfigs", scrape.default_engine));
  }
  return {};
}

// Pixels, tokens: at most 2^31.
void ReadCount(const Json& parameters, std::string_view path, uint32_t& value) {
  value = static_cast<uint32_t>(
      std::clamp(NumberParameter(parameters, path, value), 0.0, 2147483648.0));
}

void ReadEstimate(Loading& loading, const DeclaredPlugin& plugin) {
  prompt::EstimateOptions& estimate = loading.config.estimate;
  const Json& parameters = plugin.parameters;
  const std::string mode = StringParameter(parameters, "estimate.image.mode", "");
  if (!mode.empty()) estimate.image_static = mode == "static";
  ReadCount(parameters, "estimate.image.static.staticToken", estimate.image_static_tokens);
  ReadCount(parameters, "estimate.image.defaultResolution.width", estimate.image_width);
  ReadCount(parameters, "estimate.image.defaultResolution.height", estimate.image_height);
  uint32_t factor = estimate.image_factor;
  ReadCount(parameters, "estimate.image.dynamic.factor", factor);
  if (factor > 0) estimate.image_factor = factor;
  if (Parameter(parameters, "estimate.video") == nullptr) return;
  loading.Warn(Below(Below(Below(plugin.path, "parameters"), "estimate"), "video"),
               "has no effect: every video counts as one of default length and size");
}

Status ReadInflight(Loading& loading, const DeclaredPlugin& plugin) {
  LoadedConfig& config = loading.config;
  const Json& parameters = plugin.parameters;
  const Path path = Below(plugin.path, "parameters");
  config.add_estimated_output_tokens =
      BoolParameter(parameters, "addEstimatedOutputTokens", config.add_estimated_output_tokens);
  config.output_ratio = NumberParameter(parameters, "outputRatio", config.output_ratio);
  const double cap = NumberParameter(parameters, "maxEstimatedOutputTokens", 0);
  if (cap < 0 || cap > 0x1p53) {
    return loading.document.Wrong(Below(path, "maxEstimatedOutputTokens"),
                                  "must be between 0 and 2^53");
  }
  config.max_estimated_output_tokens = static_cast<uint64_t>(cap);
  if (BoolParameter(parameters, "syncCrossReplicaState", false)) {
    loading.Warn(Below(path, "syncCrossReplicaState"),
                 "has no effect: replicas count the requests that they route themselves");
  }
  return {};
}

}  // namespace

Status ReadPluginOptions(Loading& loading) {
  for (size_t i = 0; i < loading.plugins.size(); ++i) {
    const DeclaredPlugin plugin = loading.plugins[i];
    const std::string& type = plugin.type->name;
    WP_RETURN_IF_ERROR(ReadKvOptions(loading, plugin));
    if (type == "metrics-data-source") WP_RETURN_IF_ERROR(ReadScraping(loading, plugin));
    if (type == "core-metrics-extractor") WP_RETURN_IF_ERROR(ReadEngines(loading, plugin));
    if (type == "token-producer" || type == "tokenizer") ReadEstimate(loading, plugin);
    if (type == "inflight-load-producer") WP_RETURN_IF_ERROR(ReadInflight(loading, plugin));
  }
  return {};
}

}  // namespace warmpath::config
