// From a request body to the very token ids the engine computes. Thread-safe.
//
// The cost grows with the part of a prompt that is new: a plain body is read in place, the shape of
// its conversation is rendered once for all texts, and the ids of beginnings met before are known.
// Whatever is not plain goes the full way, through the engine's own normalisation of the whole body
// and its template; both give the same ids.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kv/types.h"
#include "prompt/encoded_prompt.h"
#include "prompt/plain_body.h"
#include "prompt/tokenizer.h"

namespace warmpath::prompt {

struct EncoderOptions {
  size_t cache_bytes = size_t{64} << 20;  // shapes, texts and their ids; 0: always the full way
  std::function<int64_t()>
      now;  // seconds since 1970 for templates with a date; empty: the system clock
};

class Encoder {
 public:
  Encoder(std::shared_ptr<const Tokenizer> tokenizer, EncoderOptions options);
  ~Encoder();
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  // One entry per prompt of the body (chat: one; completions: string, [string], [ids], [[ids]];
  // generate: token_ids).
  // kInvalidArgument: the engine will refuse this body too (the message is ours); kUnsupported:
  // exact tokens cannot be had here (multimodal parts or features, request-level chat_template,
  // template features we do not run): route by load.
  Result<std::vector<EncodedPrompt>> Encode(Api api, std::string_view body) const;
  // ReadPlainBody, with less to do where texts are known.
  bool Read(Api api, std::string_view body, PlainBody& out) const;
  // The same as Encode for a body already read, here or by ReadPlainBody; `plain` is null when it
  // is not plain.
  Result<std::vector<EncodedPrompt>> Encode(Api api, std::string_view body,
                                            const PlainBody* plain) const;
  // The same where that is sure to be quick: nullopt where more than about `max_new_bytes` of text
  // were never met before, and where the body has to go the full way.
  std::optional<std::vector<EncodedPrompt>> EncodeKnown(Api api, const PlainBody& plain,
                                                        size_t max_new_bytes) const;
  // Prepares for a body that begins as `begun` does (begun_body.h; its last text may go on): what
  // of the text is sure to be cut into tokens as it stands is known from now on. How many bytes of
  // it were not before.
  size_t Learn(Api api, const PlainBody& begun) const;
  const Tokenizer& tokenizer() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmpath::prompt
