// Cuts a text made of stretches into chunks whose tokens do not depend on each other. Each cut
// depends on little but the text before it, so texts with a common beginning have common chunks.
// Pure; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "prompt/prefix_trie.h"

namespace warmpath::prompt {

struct Stretch {
  TextSpan text;
  // Ends of special tokens in it, ascending.
  std::span<const uint64_t> ends;
};

class Chunker {
 public:
  // `between_words`: as Tokenizer::cuts_between_words().
  Chunker(std::span<const Stretch> stretches, bool between_words)
      : stretches_(stretches), between_words_(between_words) {}

  // The next chunk, or with false what is left behind the last cut.
  bool Next(std::vector<TextSpan>& chunk);

 private:
  std::span<const Stretch> stretches_;
  const bool between_words_;
  size_t stretch_ = 0;
  size_t offset_ = 0;  // in that stretch
  size_t size_ = 0;    // of the last chunk
  size_t passed_ = 0;  // bytes before it
};

}  // namespace warmpath::prompt
