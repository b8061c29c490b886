// Prompts as completions and generate bodies carry them. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kv/types.h"

namespace warmpath::prompt {

// The fields of a completions body that make its tokens.
struct CompletionsBody {
  std::vector<std::string> texts;
  std::vector<std::vector<kv::TokenId>> ids;
  bool add_special_tokens = true;
  uint64_t truncate_to = 0;  // keep the last so many tokens; 0 keeps all
};

// Ids are below `id_limit`. kInvalidArgument: the engine refuses the body too; kUnsupported: its
// tokens cannot be had here.
Result<CompletionsBody> ReadCompletions(std::string_view body, uint32_t id_limit);
// The ids of a generate body; errors as above.
Result<std::vector<kv::TokenId>> ReadGenerate(std::string_view body, uint32_t id_limit);

}  // namespace warmpath::prompt
