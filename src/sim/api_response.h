// The engine's answers as text: whole bodies and server-sent events, with its members in its order,
// nulls spelled out. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kv/types.h"
#include "sim/api_request.h"

namespace warmpath::sim {

// One generated answer; they are numbered prompt by prompt.
struct Answer {
  std::string text;
  std::vector<kv::TokenId> tokens;
  std::string_view finish_reason;  // "" while it goes on
  uint32_t cached_tokens = 0;
};

struct ResponseContext {
  int64_t created = 0;  // seconds since the epoch
  std::string fingerprint;
  bool prompt_tokens_details = false;
  uint32_t block_size = 16;
};

std::string WholeAnswer(const Generation& request, std::span<const Answer> answers,
                        const ResponseContext& context);

// Events of a stream, "data: ...\n\n" each.
// The opening of a chat stream: a role for every answer. "" for completions.
std::string StreamOpening(const Generation& request, const ResponseContext& context);
// One token of answer `index`. `last`: nothing but the usage and the end follow.
std::string StreamToken(const Generation& request, const Answer& answer, size_t index,
                        std::string_view text, bool last, const ResponseContext& context);
// The usage, when asked for, and the end mark.
std::string StreamEnd(const Generation& request, std::span<const Answer> answers,
                      const ResponseContext& context);

}  // namespace warmpath::sim
