#include "prompt/words.h"

namespace warmpath::prompt {
namespace {

// Coarse on purpose: every script beyond ASCII counts as letters.
ByteKind KindOf(char c) {
  if (c >= '0' && c <= '9') return ByteKind::kDigit;
  if (c == ' ' || (c >= '\t' && c <= '\r')) return ByteKind::kSpace;
  const bool ascii_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return ascii_letter || static_cast<uint8_t>(c) >= 0x80 ? ByteKind::kLetter : ByteKind::kOther;
}

}  // namespace

bool ContinueWords(std::string_view text, WordRun& run) {
  if (text.empty()) return true;
  if (run.size + text.size() <= kMaxWordBytes) {
    // No run can be too long: only the last one counts.
    const ByteKind last = KindOf(text.back());
    size_t start = text.size() - 1;
    while (start > 0 && KindOf(text[start - 1]) == last) --start;
    const bool goes_on = start == 0 && run.size > 0 && run.kind == last;
    run = {last, text.size() - start + (goes_on ? run.size : 0)};
    return true;
  }
  for (const char c : text) {
    const ByteKind kind = KindOf(c);
    run.size = run.size > 0 && kind == run.kind ? run.size + 1 : 1;
    run.kind = kind;
    if (run.size > kMaxWordBytes) return false;
  }
  return true;
}

}  // namespace warmpath::prompt
