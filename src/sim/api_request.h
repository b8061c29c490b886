// Reading and checking what clients send, with the engine's own refusals: status, error family,
// parameter and message. Pure functions.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "codec/json.h"
#include "net/http.h"
#include "sim/cache_event.h"
#include "sim/options.h"
#include "sim/text_model.h"

namespace warmpath::sim {

struct ApiError {
  int status = 400;
  std::string body;
};
template <typename T>
using ApiResult = tl::expected<T, ApiError>;

// {"error":{"message","type","param","code"}}; `param` "" is null.
ApiError EngineError(int status, std::string_view message, std::string_view param = "");
// One failed check of the body's types: `detail` is the part after 'loc'.
ApiError ValidationError(std::string_view type, std::string_view location, std::string_view message,
                         std::string_view input, std::string_view context = "");

// What requests are checked against. Outlives the calls.
struct ApiContext {
  const TextModel* text = nullptr;
  std::vector<std::string> model_names;
  std::vector<LoraModule> loras;  // an adapter's id is its position + 1
  uint32_t max_model_len = 2048;
  uint32_t ranks = 1;
};

// A request for generation, in the engine's terms.
struct Generation {
  bool chat = false;
  std::string id;  // "cmpl-..." or "chatcmpl-..."
  std::string model;
  std::vector<TextModel::Tokens> prompts;
  uint32_t n = 1;
  // Generated tokens per answer, or by prompt length where the client gave no limit.
  std::optional<uint32_t> max_tokens;
  bool ignore_eos = false;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  bool return_token_ids = false;
  bool echo = false;
  bool read_cache = true;
  bool report_reused = false;
  std::shared_ptr<const CacheScope> scope;
  std::optional<uint32_t> rank;  // X-data-parallel-rank
};

// The body as a JSON object.
ApiResult<codec::Json> ParseBody(const net::HttpRequest& request);
// The adapter a request names: nullptr for the base model.
ApiResult<const LoraModule*> FindModel(const codec::Json& body, const ApiContext& context);
ApiResult<Generation> ParseGeneration(bool chat, const net::HttpRequest& request,
                                      const ApiContext& context);

}  // namespace warmpath::sim
