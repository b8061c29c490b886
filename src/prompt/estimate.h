// Pseudo tokens for requests whose exact tokens cannot be had: llm-d's `estimate` backend, four
// bytes of the prompt's text each. Good for comparing prompts with one another, never for matching
// what engines store. Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kv/types.h"
#include "prompt/request.h"

namespace warmpath::prompt {

// llm-d's parameters and defaults (token-producer `estimate`).
struct EstimateOptions {
  bool image_static = false;
  uint32_t image_static_tokens = 0;
  uint32_t image_width = 640, image_height = 360;  // where an image does not tell its own
  uint32_t image_factor = 1024;                    // pixels per token
};

// One list per prompt of the body; the text of messages, tools included. kInvalidArgument: no JSON
// object; kUnsupported: the API carries no prompt text.
Result<std::vector<std::vector<kv::TokenId>>> EstimateTokens(Api api, std::string_view body,
                                                             const EstimateOptions& options = {});

}  // namespace warmpath::prompt
