// Runs of characters that a tokenizer may take for one word: their merges need up to 50 times a
// word's size in memory, kept for the thread. Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace warmpath::prompt {

// Text with a longer word is no text: routed by load.
inline constexpr size_t kMaxWordBytes = size_t{256} << 10;

enum class ByteKind : uint8_t { kLetter, kDigit, kSpace, kOther };

// The run of one kind that a text ends with.
struct WordRun {
  ByteKind kind = ByteKind::kOther;
  size_t size = 0;
};

// Goes on from `run` over `text`. False where a run is longer than kMaxWordBytes.
bool ContinueWords(std::string_view text, WordRun& run);

}  // namespace warmpath::prompt
