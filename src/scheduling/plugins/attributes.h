// Numbers of endpoints that plugins read by name, and labels. Pure functions, thread-safe.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "scheduling/types.h"

namespace warmpath::scheduling {

// llm-d's attribute keys: WaitingQueueSize, RunningRequestsSize, KVCacheUsagePercent (0..1), else a
// custom metric of that key. nullopt: never scraped, or the engine does not report it.
std::optional<double> AttributeOf(const Candidate& candidate, const std::string& key);

// nullptr: the endpoint has no such label.
const std::string* FindLabel(const Candidate& candidate, std::string_view label);

// Tokens of the request's prompts: exact ones, else pseudo tokens; 0 = not known.
uint64_t PromptTokens(const Request& request);

}  // namespace warmpath::scheduling
