#include "fleet/scrape.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/units.h"
#include "codec/json.h"
#include "codec/prometheus_text.h"

namespace warmpath::fleet {
namespace {

using codec::PromSample;

constexpr uint32_t kMaxBlockSize = 1 << 20;  // tokens
constexpr int kMaxRanks = 1024;
constexpr size_t kMaxVersionBytes = 128;

// A gauge given once per data-parallel rank.
struct RankGauge {
  double sum = 0;
  int series = 0;
  void Add(double value) {
    if (!std::isfinite(value) || value < 0) return;
    sum += value;
    ++series;
  }
  double mean() const { return series == 0 ? 0 : sum / series; }
};

uint64_t CountLabel(const PromSample& sample, std::string_view label) {
  const auto value = ParseInt(sample.Label(label));  // "None" before the engine has sized its cache
  return value && *value > 0 ? static_cast<uint64_t>(*value) : 0;
}

struct Collector {
  RankGauge running;
  RankGauge waiting;
  RankGauge usage;
  RankGauge old_usage;  // the name before vLLM 0.12; for some releases both are there
  ScrapedLoad load;

  void Config(const PromSample& sample, std::string_view block_size, std::string_view blocks) {
    const uint64_t size = CountLabel(sample, block_size);
    if (size > 0 && size <= kMaxBlockSize) load.block_size = static_cast<uint32_t>(size);
    // Every rank's series gives the sum over all ranks.
    load.kv_blocks = std::max(load.kv_blocks, CountLabel(sample, blocks));
    if (sample.Label("enable_prefix_caching") == "False") load.prefix_caching = false;
  }

  void Take(const PromSample& sample) {
    const std::string_view name = sample.name;
    if (name.starts_with("vllm:")) {
      const std::string_view rest = name.substr(5);
      if (rest == "num_requests_running") {
        running.Add(sample.value);
        load.ranks = static_cast<uint16_t>(std::min(running.series, kMaxRanks));
        return;
      }
      if (rest == "num_requests_waiting") return waiting.Add(sample.value);
      if (rest == "kv_cache_usage_perc") return usage.Add(sample.value);
      if (rest == "gpu_cache_usage_perc") return old_usage.Add(sample.value);
      if (rest == "cache_config_info") return Config(sample, "block_size", "num_gpu_blocks");
    } else if (name.starts_with("sglang:")) {
      const std::string_view rest = name.substr(7);
      if (rest == "num_running_reqs") return running.Add(sample.value);
      if (rest == "num_queue_reqs") return waiting.Add(sample.value);
      if (rest == "token_usage") return usage.Add(sample.value);
      if (rest == "cache_config_info") return Config(sample, "page_size", "num_pages");
    }
  }
};

}  // namespace

Result<ScrapedLoad> ParseLoad(std::string_view metrics_text) {
  Collector collected;
  WP_TRY([[maybe_unused]] const codec::PromStats stats,
         codec::ReadPrometheusText(metrics_text,
                                   [&](const PromSample& sample) { collected.Take(sample); }));
  if (collected.running.series == 0 && collected.waiting.series == 0 &&
      collected.usage.series == 0) {
    return Fail(Code::kUnsupported, "no load metrics of vLLM or SGLang on the page");
  }
  ScrapedLoad load = collected.load;
  load.running = collected.running.sum;
  load.waiting = collected.waiting.sum;
  const RankGauge& usage = collected.usage.series > 0 ? collected.usage : collected.old_usage;
  load.kv_usage = std::clamp(usage.mean(), 0.0, 1.0);
  return load;
}

Result<std::vector<ServedModel>> ParseModels(std::string_view body) {
  WP_TRY(const codec::Json json, codec::ParseJson(body));
  const codec::Json* data = codec::Find(json, "data");
  if (data == nullptr || !data->is_array()) {
    return Fail(Code::kInvalidArgument, "no \"data\" list in the answer");
  }
  std::vector<ServedModel> models;
  for (const codec::Json& entry : data->get_array()) {
    const auto id = codec::FindString(entry, "id");
    if (!id || id->empty() || id->size() > kMaxModelIdBytes) continue;
    const auto text = [&](std::string_view key) {
      return std::string(codec::FindString(entry, key).value_or("").substr(0, kMaxModelIdBytes));
    };
    models.push_back({std::string(*id), text("root"), text("parent")});
    if (models.size() == kMaxServedModels) break;
  }
  if (models.empty()) return Fail(Code::kInvalidArgument, "no model in the answer");
  return models;
}

Result<std::string> ParseVersion(std::string_view body) {
  WP_TRY(const codec::Json json, codec::ParseJson(body));
  const auto version = codec::FindString(json, "version");
  if (!version) return Fail(Code::kInvalidArgument, "no \"version\" in the answer");
  return std::string(version->substr(0, kMaxVersionBytes));
}

}  // namespace warmpath::fleet
