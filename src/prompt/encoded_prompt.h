// One prompt as token ids. Owned by whoever had it encoded; one thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kv/types.h"

namespace warmpath::prompt {

class EncodedPrompt {
 public:
  EncodedPrompt() = default;
  explicit EncodedPrompt(std::vector<kv::TokenId> ids, std::string text = {});

  size_t token_count() const { return token_count_; }
  // Put together at the first call and kept: ask for them only where token_count() and Keys() will
  // not do.
  const std::vector<kv::TokenId>& ids() const;
  // The rendered chat or completion text; empty for prompts given as ids. Never logged.
  std::string text() const;
  // Keys of every full block, as kv::PrefixKeys gives them for ids().
  std::vector<kv::BlockKey> Keys(kv::BlockKey root, uint32_t block_size) const;

 private:
  size_t token_count_ = 0;
  std::vector<kv::TokenId> ids_;
  std::string text_;
};

}  // namespace warmpath::prompt
