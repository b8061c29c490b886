#include "fleet/engine_metrics.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "base/units.h"

namespace warmpath::fleet {
namespace {

bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool IsLabelName(std::string_view text) {
  return !text.empty() && IsNameStart(text.front()) &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return IsNameStart(c) || (c >= '0' && c <= '9'); });
}
bool IsMetricName(std::string_view text) {
  return !text.empty() && (IsNameStart(text.front()) || text.front() == ':') &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return IsNameStart(c) || (c >= '0' && c <= '9') || c == ':'; });
}

// One label's value up to the next ',' or '}', or in quotes with \\ and \" escaped; takes it off.
Result<std::string> TakeValue(std::string_view& rest) {
  std::string value;
  if (!rest.starts_with('"')) {
    const size_t end = rest.find_first_of(",}");
    if (end == std::string_view::npos) return Fail(Code::kInvalidArgument, "lacks the closing }");
    value = Trim(rest.substr(0, end));
    if (value.find_first_of("\"{=") != std::string::npos) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("a value such as {} goes into double quotes", value));
    }
    rest.remove_prefix(end);
    return value;
  }
  rest.remove_prefix(1);
  while (!rest.empty() && rest.front() != '"') {
    if (rest.front() == '\\' && rest.size() > 1) rest.remove_prefix(1);
    value += rest.front();
    rest.remove_prefix(1);
  }
  if (rest.empty()) return Fail(Code::kInvalidArgument, "lacks the closing quote");
  rest.remove_prefix(1);
  return value;
}

Result<MetricSpec> Parse(std::string_view text) {
  MetricSpec spec;
  const size_t brace = text.find('{');
  spec.name = Trim(text.substr(0, brace));
  if (!IsMetricName(spec.name)) {
    return Fail(Code::kInvalidArgument, "a metric name has letters, digits, _ and : only");
  }
  if (brace == std::string_view::npos) return spec;
  std::string_view rest = Trim(text.substr(brace + 1));
  while (!rest.starts_with('}')) {
    const size_t equals = rest.find_first_of("=,}");
    if (equals == std::string_view::npos) {
      return Fail(Code::kInvalidArgument, "lacks the closing }");
    }
    const std::string key(Trim(rest.substr(0, equals)));
    if (rest[equals] != '=' || !IsLabelName(key)) {
      return Fail(Code::kInvalidArgument, fmt::format("\"{}\" is not label=value", key));
    }
    if (std::any_of(spec.labels.begin(), spec.labels.end(),
                    [&](const auto& label) { return label.first == key; })) {
      return Fail(Code::kInvalidArgument, fmt::format("label {} given twice", key));
    }
    if (spec.labels.size() == kMaxMetricSpecLabels) {
      return Fail(Code::kInvalidArgument, fmt::format("more than {} labels", kMaxMetricSpecLabels));
    }
    rest = Trim(rest.substr(equals + 1));
    WP_TRY(std::string value, TakeValue(rest));
    spec.labels.emplace_back(key, std::move(value));
    rest = Trim(rest);
    if (rest.starts_with(',')) {
      rest = Trim(rest.substr(1));
    } else if (!rest.starts_with('}')) {
      return Fail(Code::kInvalidArgument, "lacks the closing }");
    }
  }
  if (rest.size() > 1) return Fail(Code::kInvalidArgument, "nothing may follow the closing }");
  return spec;
}

std::vector<EngineMetrics> MakeBuiltIn() {
  EngineMetrics vllm;
  vllm.engine = "vllm";
  vllm.queued = {"vllm:num_requests_waiting", {}};
  vllm.running = {"vllm:num_requests_running", {}};
  vllm.kv_usage = {"vllm:kv_cache_usage_perc", {}};
  vllm.lora = {"vllm:lora_requests_info", {}};
  vllm.cache_info = {"vllm:cache_config_info", {}};
  vllm.cache_block_size_label = "block_size";
  vllm.cache_num_blocks_label = "num_gpu_blocks";

  EngineMetrics sglang;
  sglang.engine = "sglang";
  sglang.queued = {"sglang:num_queue_reqs", {}};
  sglang.running = {"sglang:num_running_reqs", {}};
  sglang.kv_usage = {"sglang:token_usage", {}};
  sglang.cache_info = {"sglang:cache_config_info", {}};
  sglang.cache_block_size_label = "page_size";
  sglang.cache_num_blocks_label = "num_pages";

  EngineMetrics trtllm;
  trtllm.engine = "trtllm-serve";
  trtllm.queued = {"trtllm_num_requests_waiting", {}};
  trtllm.running = {"trtllm_num_requests_running", {}};
  trtllm.kv_usage = {"trtllm_kv_cache_utilization", {}};
  trtllm.cache_block_size = {"trtllm_kv_cache_tokens_per_block", {}};
  trtllm.cache_num_blocks = {"trtllm_kv_cache_max_blocks", {}};

  const auto blocks = [](const char* type) {
    return MetricSpec{"nv_trt_llm_kv_cache_block_metrics", {{"kv_cache_block_type", type}}};
  };
  EngineMetrics triton_llm;
  triton_llm.engine = "triton-tensorrt-llm";
  triton_llm.queued = {"nv_trt_llm_request_metrics", {{"request_type", "waiting"}}};
  triton_llm.running = {"nv_trt_llm_request_metrics", {{"request_type", "scheduled"}}};
  triton_llm.kv_usage = blocks("fraction");
  triton_llm.cache_block_size = blocks("tokens_per");
  triton_llm.cache_num_blocks = blocks("max");
  triton_llm.health_path = "/v2/health/ready";

  EngineMetrics triton;
  triton.engine = "triton";
  triton.queued = {"nv_inference_pending_request_count", {}};
  triton.running = {"nv_inference_exec_count", {}};
  triton.health_path = "/v2/health/ready";
  return {vllm, sglang, trtllm, triton_llm, triton};
}

const EngineMetrics* FindIn(const std::vector<EngineMetrics>& engines, std::string_view name) {
  const auto it = std::find_if(engines.begin(), engines.end(),
                               [&](const EngineMetrics& engine) { return engine.engine == name; });
  return it == engines.end() ? nullptr : &*it;
}

}  // namespace

Result<MetricSpec> ParseMetricSpec(std::string_view text) {
  text = Trim(text);
  if (text.empty()) return MetricSpec{};
  if (text.size() > kMaxMetricSpecBytes) {
    return Fail(Code::kInvalidArgument, fmt::format("a metric of {} bytes is over the limit of {}",
                                                    text.size(), kMaxMetricSpecBytes));
  }
  auto spec = Parse(text);
  if (!spec) {
    return Fail(Code::kInvalidArgument,
                fmt::format("metric {}: {}", JsonQuote(text), spec.error().message));
  }
  return spec;
}

const std::vector<EngineMetrics>& BuiltInEngines() {
  static const std::vector<EngineMetrics> engines = MakeBuiltIn();
  return engines;
}

const EngineMetrics* FindEngine(const ScrapeConfig& config, std::string_view engine) {
  const EngineMetrics* own = FindIn(config.engines, engine);
  return own != nullptr ? own : FindIn(BuiltInEngines(), engine);
}

}  // namespace warmpath::fleet
