// What an engine's answers to /metrics, /v1/models and /version say. Pure functions on untrusted
// text; bounded.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fleet/endpoint.h"

namespace warmpath::fleet {

// An engine lists its base model and its adapters; more than this is not believed.
inline constexpr size_t kMaxServedModels = 4096;
inline constexpr size_t kMaxModelIdBytes = 1024;

// Understands vLLM's names (and those of before 0.12) and SGLang's. Fields nobody reported keep
// their default; `at` is left to the caller. kUnsupported: the page has none of the load metrics
// (an engine started with --disable-log-stats).
Result<ScrapedLoad> ParseLoad(std::string_view metrics_text);

// Body of GET /v1/models. Entries without a usable id are left out.
Result<std::vector<ServedModel>> ParseModels(std::string_view body);

// Body of GET /version: {"version": "0.14.1"}.
Result<std::string> ParseVersion(std::string_view body);

}  // namespace warmpath::fleet
