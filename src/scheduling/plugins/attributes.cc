#include "scheduling/plugins/attributes.h"

#include <cmath>

namespace warmpath::scheduling {

std::optional<double> AttributeOf(const Candidate& candidate, const std::string& key) {
  const fleet::ScrapedLoad& load = candidate.endpoint->load;
  if (load.at == TimePoint{}) return std::nullopt;
  double value = 0;
  if (const auto it = load.custom.find(key); it != load.custom.end()) {
    value = it->second;
  } else if (key == "WaitingQueueSize") {
    value = load.waiting;
  } else if (key == "RunningRequestsSize") {
    value = load.running;
  } else if (key == "KVCacheUsagePercent") {
    value = load.kv_usage;
  } else {
    return std::nullopt;
  }
  if (!std::isfinite(value)) return std::nullopt;
  return value;
}

const std::string* FindLabel(const Candidate& candidate, std::string_view label) {
  const auto& labels = candidate.endpoint->spec.labels;
  const auto it = labels.find(std::string(label));
  return it == labels.end() ? nullptr : &it->second;
}

uint64_t PromptTokens(const Request& request) {
  if (!request.tokens_estimated) return request.prompt_tokens;
  uint64_t tokens = 0;
  for (const auto& prompt : request.prompts) tokens += prompt.size();
  return tokens;
}

}  // namespace warmpath::scheduling
