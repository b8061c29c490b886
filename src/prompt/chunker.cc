#include "prompt/chunker.h"

#include <algorithm>
#include <string_view>

namespace warmpath::prompt {
namespace {

// Shorter chunks cost more to look up than to tokenize.
constexpr size_t kMinBytes = 256;
// From so many bytes on a chunk ends between words: an eighth of the text before it, in these
// bounds. What follows a common beginning is tokenized from the last cut in it, and the cost of a
// long text that is known grows with its chunks.
constexpr size_t kWordsFrom = 3072;
constexpr size_t kWordsFromInLongText = 12'288;

constexpr size_t kNone = static_cast<size_t>(-1);

bool IsLetter(char c) {
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'z';
}

// Where a space stands between two letters in [from, limit), the second before `limit`; kNone when
// nowhere. No longest escape reaches back to a letter before which six bytes hold no backslash.
size_t FindBetweenWords(const TextSpan& text, size_t from, size_t limit) {
  const std::string_view bytes = text.bytes.substr(0, limit);
  for (size_t at = bytes.find(' ', std::max<size_t>(from, 1)); at != bytes.npos;
       at = bytes.find(' ', at + 1)) {
    if (at + 1 >= limit) return kNone;
    if (!IsLetter(bytes[at - 1]) || !IsLetter(bytes[at + 1])) continue;
    if (text.raw) {
      const size_t start = at < 6 ? 0 : at - 6;
      if (bytes.substr(start, at - start).find('\\') != bytes.npos) continue;
    }
    return at;
  }
  return kNone;
}

}  // namespace

bool Chunker::Next(std::vector<TextSpan>& chunk) {
  chunk.clear();
  passed_ += size_;
  size_t& size = size_ = 0;
  const size_t words_from = std::clamp(passed_ / 8, kWordsFrom, kWordsFromInLongText);
  for (; stretch_ < stretches_.size(); ++stretch_, offset_ = 0) {
    const TextSpan& text = stretches_[stretch_].text;
    const std::span<const uint64_t> ends = stretches_[stretch_].ends;
    if (offset_ == text.bytes.size()) continue;
    const auto add = [&](size_t end) {
      chunk.push_back({text.bytes.substr(offset_, end - offset_), text.raw});
      size += end - offset_;
      offset_ = end;
    };
    const size_t reached = size < kMinBytes ? kMinBytes - size : 1;
    const auto end = std::lower_bound(ends.begin(), ends.end(), offset_ + reached);
    const size_t special = end == ends.end() ? kNone : static_cast<size_t>(*end);
    if (between_words_) {
      const size_t from = offset_ + (size < words_from ? words_from - size : 0);
      const size_t limit = std::min(special, text.bytes.size());
      const size_t cut = from < limit ? FindBetweenWords(text, from, limit) : kNone;
      if (cut != kNone && cut > offset_) {
        add(cut);
        return true;
      }
    }
    if (special != kNone) {
      add(special);
      return true;
    }
    add(text.bytes.size());
  }
  return false;
}

}  // namespace warmpath::prompt
