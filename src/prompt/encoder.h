// From a request body to the very token ids the engine computes. Thread-safe; caches rendered
// prefixes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kv/types.h"
#include "prompt/encoded_prompt.h"
#include "prompt/request.h"
#include "prompt/tokenizer.h"

namespace warmpath::prompt {

struct EncoderOptions {
  size_t cache_bytes = size_t{64} << 20;  // rendered prefixes and their ids; 0: no cache
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
  const Tokenizer& tokenizer() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmpath::prompt
