// One prompt as token ids. Owned by whoever had it encoded; one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kv/types.h"

namespace warmpath::prompt {

class PrefixNode;

class EncodedPrompt {
 public:
  EncodedPrompt() = default;
  explicit EncodedPrompt(std::vector<kv::TokenId> ids, std::string text = {});
  // What `prefix` stands for, and behind it the ids of `text`. `known_tokens` were not computed for
  // this prompt.
  EncodedPrompt(std::shared_ptr<const PrefixNode> prefix, size_t known_tokens,
                std::vector<kv::TokenId> ids, std::string text);

  size_t token_count() const { return token_count_; }
  // How many of them, from the first on, were known from prompts before.
  size_t known_tokens() const { return known_tokens_; }
  // Put together at the first call and kept: ask for them only where token_count() and Keys() will
  // not do.
  const std::vector<kv::TokenId>& ids() const;
  // The rendered chat or completion text; empty for prompts given as ids. Never logged.
  std::string text() const;
  // Keys of every full block, as kv::PrefixKeys gives them for ids().
  std::vector<kv::BlockKey> Keys(kv::BlockKey root, uint32_t block_size) const;

 private:
  size_t token_count_ = 0;
  size_t known_tokens_ = 0;
  std::shared_ptr<const PrefixNode> prefix_;  // null: the ids are all there is
  std::vector<kv::TokenId> ids_;
  std::string text_;
  mutable std::vector<kv::TokenId> whole_;  // with those of the prefix
};

}  // namespace warmpath::prompt
