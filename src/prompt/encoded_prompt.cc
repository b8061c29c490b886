#include "prompt/encoded_prompt.h"

#include <utility>

#include "kv/keys.h"
#include "prompt/prefix_trie.h"

namespace warmpath::prompt {

EncodedPrompt::EncodedPrompt(std::vector<kv::TokenId> ids, std::string text)
    : token_count_(ids.size()), ids_(std::move(ids)), text_(std::move(text)) {}

EncodedPrompt::EncodedPrompt(std::shared_ptr<const PrefixNode> prefix, size_t known_tokens,
                             std::vector<kv::TokenId> ids, std::string text)
    : token_count_(prefix->tokens() + ids.size()),
      known_tokens_(known_tokens),
      prefix_(std::move(prefix)),
      ids_(std::move(ids)),
      text_(std::move(text)) {}

const std::vector<kv::TokenId>& EncodedPrompt::ids() const {
  if (prefix_ == nullptr || prefix_->tokens() == 0) return ids_;
  if (whole_.empty()) {
    whole_.reserve(token_count_);
    for (const PrefixNode* node : prefix_->Path())
      whole_.insert(whole_.end(), node->ids().begin(), node->ids().end());
    whole_.insert(whole_.end(), ids_.begin(), ids_.end());
  }
  return whole_;
}

std::string EncodedPrompt::text() const {
  if (prefix_ == nullptr) return text_;
  std::string text;
  for (const PrefixNode* node : prefix_->Path()) node->AppendText(text);
  return text + text_;
}

std::vector<kv::BlockKey> EncodedPrompt::Keys(kv::BlockKey root, uint32_t block_size) const {
  if (prefix_ == nullptr) return kv::PrefixKeys(root, ids_, block_size);
  return KeysOfChain(*prefix_, ids_, root, block_size);
}

}  // namespace warmpath::prompt
