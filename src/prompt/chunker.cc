#include "prompt/chunker.h"

#include <algorithm>
#include <string_view>
#include <utility>

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

// Whether a space stands between two letters at `at`, which is not the first of `bytes`, and not
// the last. No longest escape reaches back to a letter before which six bytes hold no backslash.
bool IsBetweenWords(std::string_view bytes, size_t at, bool raw) {
  if (bytes[at] != ' ' || !IsLetter(bytes[at - 1]) || !IsLetter(bytes[at + 1])) return false;
  if (!raw) return true;
  const size_t start = at < 6 ? 0 : at - 6;
  return bytes.substr(start, at - start).find('\\') == bytes.npos;
}

// The first place between words in [from, limit), with the letter behind it before `limit`; kNone
// when there is none.
size_t FindBetweenWords(const TextSpan& text, size_t from, size_t limit) {
  const std::string_view bytes = text.bytes.substr(0, limit);
  for (size_t at = bytes.find(' ', std::max<size_t>(from, 1)); at < bytes.size() - 1;
       at = bytes.find(' ', at + 1)) {
    if (IsBetweenWords(bytes, at, text.raw)) return at;
  }
  return kNone;
}

// The last one.
size_t FindLastBetweenWords(const TextSpan& text, size_t from, size_t limit) {
  const std::string_view bytes = text.bytes.substr(0, limit);
  for (size_t at = bytes.size(); at-- > std::max<size_t>(from, 1);) {
    if (at + 1 < bytes.size() && IsBetweenWords(bytes, at, text.raw)) return at;
  }
  return kNone;
}

}  // namespace

size_t Chunker::bytes_left() const {
  size_t left = 0;
  for (size_t i = stretch_; i < stretches_.size(); ++i) left += stretches_[i].text.bytes.size();
  return left - (stretch_ < stretches_.size() ? offset_ : 0);
}

void Chunker::Take(size_t end, std::vector<TextSpan>& chunk) {
  const TextSpan& text = stretches_[stretch_].text;
  const bool starts = text.starts && offset_ == 0;
  chunk.push_back({text.bytes.substr(offset_, end - offset_), text.raw, starts});
  size_ += end - offset_;
  offset_ = end;
}

bool Chunker::Next(std::vector<TextSpan>& chunk) {
  chunk.clear();
  passed_ += std::exchange(size_, 0);
  const size_t words_from = std::clamp(passed_ / 8, kWordsFrom, kWordsFromInLongText);
  for (; stretch_ < stretches_.size(); ++stretch_, offset_ = 0) {
    const TextSpan& text = stretches_[stretch_].text;
    const std::span<const uint64_t> ends = stretches_[stretch_].ends;
    if (offset_ == text.bytes.size()) continue;
    const size_t reached = size_ < kMinBytes ? kMinBytes - size_ : 1;
    const auto end = std::lower_bound(ends.begin(), ends.end(), offset_ + reached);
    const size_t special = end == ends.end() ? kNone : static_cast<size_t>(*end);
    if (between_words_) {
      const size_t from = offset_ + (size_ < words_from ? words_from - size_ : 0);
      const size_t limit = std::min(special, text.bytes.size());
      const size_t cut = from < limit ? FindBetweenWords(text, from, limit) : kNone;
      if (cut != kNone && cut > offset_) {
        Take(cut, chunk);
        return true;
      }
    }
    if (special != kNone) {
      Take(special, chunk);
      return true;
    }
    Take(text.bytes.size(), chunk);
  }
  return false;
}

bool Chunker::NextWithin(size_t limit, std::vector<TextSpan>& chunk) {
  if (!between_words_) return false;
  const Chunker before = *this;
  chunk.clear();
  passed_ += std::exchange(size_, 0);
  for (; stretch_ < stretches_.size(); ++stretch_, offset_ = 0) {
    const TextSpan& text = stretches_[stretch_].text;
    const size_t left = text.bytes.size() - offset_;
    if (limit > size_ + left) {
      if (left > 0) Take(text.bytes.size(), chunk);
      continue;
    }
    const size_t cut = FindLastBetweenWords(text, offset_ + 1, offset_ + limit - size_);
    if (cut == kNone) break;
    Take(cut, chunk);
    return true;
  }
  *this = before;
  return false;
}

}  // namespace warmpath::prompt
