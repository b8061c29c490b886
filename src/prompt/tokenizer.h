// Exact tokens in process: a tokenizer.json with its chat template, loaded once from a directory,
// immutable, thread-safe.
#pragma once

#include <cstdint>
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
  // `dir` holds tokenizer.json and, for chat, tokenizer_config.json (or chat_template.jinja). The
  // fast path (fastokens) is checked against the reference (Hugging Face tokenizers) here and
  // dropped on any difference. Errors name the file and the reason.
  static Result<std::shared_ptr<const Tokenizer>> Load(const std::string& dir);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Special-token strings inside `text` become special tokens, as in the engine.
  // `add_special_tokens` adds BOS and the like.
  Result<std::vector<kv::TokenId>> Encode(std::string_view text, bool add_special_tokens) const;
  // Text of `ids`; invalid UTF-8 becomes U+FFFD. Special tokens are left out when asked.
  Result<std::string> Decode(std::span<const kv::TokenId> ids, bool skip_special_tokens) const;

  // `context_json`: one JSON object with messages, tools, add_generation_prompt, ... as the
  // template sees them. A template that refuses (raise_exception) is kInvalidArgument with its
  // message; one we cannot run faithfully kUnsupported. `now`: seconds since 1970 for templates
  // that print a date, negative for the system clock.
  Result<std::string> RenderChat(std::string_view context_json, int64_t now = -1) const;
  // The same for a chat completions body as the client sent it: the engine's normalisation of
  // messages comes first.
  struct ChatText {
    std::string text;
    bool add_special_tokens = false;
    uint64_t truncate_to = 0;  // keep the last so many tokens; 0 keeps all
  };
  Result<ChatText> RenderChatBody(std::string_view body, int64_t now = -1) const;
  // Ascending byte positions in `text`: ends of leading pieces, each at least `min_bytes` long and
  // ending with a special token. Encoding the pieces and the rest one by one, without added special
  // tokens, gives the ids of the whole text. Empty for tokenizers where that does not hold. The
  // special tokens in a stretch of a longer text also end pieces of that text.
  Result<std::vector<uint64_t>> CutPoints(std::string_view text, size_t min_bytes) const;
  // What RenderChatBody does with the texts of messages: a message's `content` that is a string,
  // or the `text` of a part of type text in a `content` that is a list; of any role. Found by
  // reading the template and proven on canned conversations when it is loaded.
  //
  // So a body may be rendered once with stand-ins in place of such texts, and the real ones put
  // in where the stand-ins came out. That gives what rendering the real body gives, and where one
  // fails, so does the other. A stand-in meets the conditions below itself, is made of ASCII
  // letters and digits that the body, the template and its special tokens do not hold, and no
  // stand-in is part of another (end each with the same letter after its number). Texts that do
  // not meet the conditions stay in the body as they are. White space at the ends of a text may
  // stay in the body around the stand-in: what becomes of it does not depend on what it surrounds.
  // Says nothing of bodies with continue_final_message.
  struct ContentRules {
    // A text that is neither empty nor begins or ends with white space (Python's str.isspace) and
    // holds none of `marks` comes out as it went in, any number of times or not at all, and
    // nothing else in the rendered text depends on it. If dates are printed, that is the same as
    // long as `now` / 900 is.
    bool opaque = false;
    // Not empty, without line ends.
    std::vector<std::string> marks;
    std::string reason;  // why not opaque
  };
  const ContentRules& content_rules() const;
  // Whether text may be cut between an ASCII letter and a single space that an ASCII letter
  // follows, outside special tokens: encoding both sides one by one gives the ids of the whole.
  // Known of the pre-tokenizer's pattern, and proven on canned texts when it is loaded.
  bool cuts_between_words() const;
  bool has_chat_template() const;
  std::string_view chat_template() const;

  std::string_view backend() const;          // "fastokens" or "tokenizers"
  uint32_t vocab_size() const;               // ids are below it
  std::string_view fallback_reason() const;  // why the backend is not fastokens; empty when it is

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Where a model's tokenizer is: an existing directory as it is; otherwise a name such as
// "Qwen/Qwen3-0.6B" or "Qwen/Qwen3-0.6B@REVISION" in the Hugging Face cache (HF_HUB_CACHE, HF_HOME,
// ~/.cache/huggingface). Only looks at the disk; hub.h downloads. Errors list the places looked at.
Result<std::string> FindTokenizerDirectory(std::string_view directory_or_name);

}  // namespace warmpath::prompt
