// Cuts a text made of stretches into chunks whose tokens do not depend on each other. Each cut
// depends on little but the text before it, so texts with a common beginning have common chunks.
// Pure; one thread. A copy goes on from where it was made.
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
  // Instead of it the longest chunk that can be told from the next `limit` bytes to end between
  // words of one stretch, the one in which those bytes end; false, with nothing taken, where there
  // is none.
  bool NextWithin(size_t limit, std::vector<TextSpan>& chunk);
  size_t bytes_left() const;

 private:
  void Take(size_t end, std::vector<TextSpan>& chunk);

  std::span<const Stretch> stretches_;
  bool between_words_;
  size_t stretch_ = 0;
  size_t offset_ = 0;  // in that stretch
  size_t size_ = 0;    // of the last chunk
  size_t passed_ = 0;  // bytes before it
};

}  // namespace warmpath::prompt
