// What a simulated engine reads and says: prompts to token ids, and the generated ids with their
// text.
//
// With a tokenizer, prompts become the very ids the real engine computes, and output is drawn from
// ordinary words of the vocabulary that stand alone (" river"), so any sequence decodes to clean
// text. Without one, a built-in vocabulary is used: id 0..255 are the bytes of the text, and 256..
// are the words of a fixed list, each with one leading space; text is cut greedily, words first. A
// chat then reads "role: content\n" per message and ends with "assistant:".
//
// Immutable, thread-safe; shared by the engines of a process.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kv/types.h"
#include "prompt/request.h"

namespace warmpath::sim {

class TextModel {
 public:
  using Tokens = std::vector<kv::TokenId>;

  // `tokenizer`: a directory or a name, or "" for the built-in vocabulary.
  static Result<std::shared_ptr<const TextModel>> Load(const std::string& tokenizer);
  virtual ~TextModel() = default;

  // One list of ids per prompt of the body. kInvalidArgument and kUnsupported as prompt::Encoder.
  virtual Result<std::vector<Tokens>> Encode(prompt::Api api, std::string_view body) const = 0;
  virtual Result<Tokens> EncodeText(std::string_view text, bool add_special_tokens) const = 0;
  virtual std::string Decode(std::span<const kv::TokenId> ids) const = 0;
  virtual uint32_t vocab_size() const = 0;

  // Key of everything generated for a prompt: a pure function of (seed, prompt, choice). `choice`
  // numbers the n answers of a request.
  static uint64_t OutputKey(uint64_t seed, std::span<const kv::TokenId> prompt, uint32_t choice);
  kv::TokenId OutputToken(uint64_t key, uint32_t index) const;

 protected:
  Tokens output_words_;  // what output is drawn from
};

}  // namespace warmpath::sim
