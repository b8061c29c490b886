// Exact tokens in process: a tokenizer.json with its chat template, loaded once from a directory, immutable, thread-safe.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kv/types.h"

namespace warmpath::prompt {

class Tokenizer {
 public:
  // `dir` holds tokenizer.json and, for chat, tokenizer_config.json (or chat_template.jinja). The fast path (fastokens) is checked
  // against the reference (Hugging Face tokenizers) here and dropped on any difference. Errors name the file and the reason.
  static Result<std::shared_ptr<const Tokenizer>> Load(const std::string& dir);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Special-token strings inside `text` become special tokens, as in the engine. `add_special_tokens` adds BOS and the like.
  Result<std::vector<kv::TokenId>> Encode(std::string_view text, bool add_special_tokens) const;
  // Text of `ids`; invalid UTF-8 becomes U+FFFD. Special tokens are left out when asked.
  Result<std::string> Decode(std::span<const kv::TokenId> ids, bool skip_special_tokens) const;

  // `context_json`: one JSON object with messages, tools, add_generation_prompt, ... as the template sees them (chat.h makes it).
  // A template that refuses (raise_exception) is kInvalidArgument with its message; one we cannot run faithfully kUnsupported.
  Result<std::string> RenderChat(std::string_view context_json) const;
  bool has_chat_template() const;
  std::string_view chat_template() const;

  std::string_view backend() const;  // "fastokens" or "tokenizers"
  uint32_t vocab_size() const;       // ids are below it

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Where a model's tokenizer is: an existing directory as it is; otherwise a name such as "Qwen/Qwen3-0.6B" in the Hugging Face
// cache (HF_HUB_CACHE, HF_HOME, ~/.cache/huggingface; HF_HUB_OFFLINE is implied). Errors list the places looked at.
Result<std::string> FindTokenizerDirectory(std::string_view directory_or_name);

}  // namespace warmpath::prompt
