// What routing needs to know of a client's request body, read in one pass and without changing it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kv/types.h"

namespace warmpath::prompt {

enum class Api {
  kChatCompletions,
  kCompletions,
  kResponses,   // routed by load for now
  kMessages,    // routed by load for now
  kEmbeddings,  // routed by load for now
  kTokenize,
  kDetokenize,
  kOther,
};

// By path alone: "/v1/chat/completions" -> kChatCompletions.
Api ApiOfPath(std::string_view path);

struct RequestView {
  Api api = Api::kOther;
  std::string model;  // "" when absent or null: the engine's default model
  bool stream = false;
  bool include_usage = false;          // stream_options.include_usage
  std::string cache_salt;              // "" when absent
  std::optional<uint64_t> max_tokens;  // max_completion_tokens, else max_tokens
  uint32_t n = 1;
};

// `body` must be a JSON object; duplicate keys: the last wins; depth at most 64 and bounded count
// of values, else kInvalidArgument. Wrong types of the fields above are left for the engine to
// refuse (the field keeps its default).
Result<RequestView> ReadRequest(Api api, std::string_view body);

}  // namespace warmpath::prompt
