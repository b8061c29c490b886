#include "prompt/encoded_prompt.h"

#include <utility>

#include "kv/keys.h"

namespace warmpath::prompt {

EncodedPrompt::EncodedPrompt(std::vector<kv::TokenId> ids, std::string text)
    : token_count_(ids.size()), ids_(std::move(ids)), text_(std::move(text)) {}

const std::vector<kv::TokenId>& EncodedPrompt::ids() const {
  return ids_;
}

std::string EncodedPrompt::text() const {
  return text_;
}

std::vector<kv::BlockKey> EncodedPrompt::Keys(kv::BlockKey root, uint32_t block_size) const {
  return kv::PrefixKeys(root, ids_, block_size);
}

}  // namespace warmpath::prompt
