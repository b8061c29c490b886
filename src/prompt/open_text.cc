#include "prompt/open_text.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace warmpath::prompt {
namespace {

// Python's str.isspace.
bool IsSpace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

// The character that the UTF-8 at the start of `bytes` begins with; of those beyond U+FFFF, which
// are no white space, some other one.
uint32_t FirstCharacter(std::string_view bytes) {
  const auto at = [&](size_t i) -> uint32_t {
    return i < bytes.size() ? static_cast<uint8_t>(bytes[i]) : 0;
  };
  const uint32_t lead = at(0);
  if (lead < 0x80) return lead;
  if (lead < 0xE0) return ((lead & 0x1F) << 6) | (at(1) & 0x3F);
  if (lead < 0xF0) return ((lead & 0x0F) << 12) | ((at(1) & 0x3F) << 6) | (at(2) & 0x3F);
  return 0x10000;
}

bool IsSpaceEscape(std::string_view raw) {
  std::string text;
  // Half of a surrogate pair is no white space.
  return AppendUnescaped(raw, text) && IsSpace(FirstCharacter(text));
}

// Whether a backslash at `i` begins an escape: an even number of them precedes it.
bool BeginsEscape(std::string_view raw, size_t i) {
  size_t before = 0;
  while (before < i && raw[i - before - 1] == '\\') ++before;
  return before % 2 == 0;
}

bool BeginsWithSpace(std::string_view raw) {
  if (raw[0] != '\\') return IsSpace(FirstCharacter(raw));
  return IsSpaceEscape(raw.substr(0, raw[1] == 'u' ? 6 : 2));
}

bool EndsWithSpace(const RawText& text) {
  const std::string_view raw = text.bytes;
  const size_t size = raw.size();
  if (text.escaped) {
    for (const size_t length : {size_t{2}, size_t{6}}) {
      if (size < length || raw[size - length] != '\\') continue;
      if ((length == 6) != (raw[size - length + 1] == 'u')) continue;
      if (BeginsEscape(raw, size - length)) return IsSpaceEscape(raw.substr(size - length));
    }
  }
  size_t start = size - 1;
  while (start > 0 && (static_cast<uint8_t>(raw[start]) & 0xC0) == 0x80) --start;
  return IsSpace(FirstCharacter(raw.substr(start)));
}

// The bytes of one blank, tab or line end, as itself or as its short escape, at the start or at the
// end of `raw`; 0: there is none.
size_t LeadingBlank(std::string_view raw) {
  if (raw.starts_with(' ')) return 1;
  for (const std::string_view escape : {"\\n", "\\r", "\\t"}) {
    if (raw.starts_with(escape)) return 2;
  }
  return 0;
}

size_t TrailingBlank(std::string_view raw) {
  if (raw.ends_with(' ')) return 1;
  for (const std::string_view escape : {"\\n", "\\r", "\\t"}) {
    if (raw.ends_with(escape) && BeginsEscape(raw, raw.size() - 2)) return 2;
  }
  return 0;
}

// Whether an escape of `text` may stand for `c`.
bool MayEscape(const RawText& text, char c) {
  const std::string_view raw = text.bytes;
  const auto code = static_cast<uint8_t>(c);
  if (code < 0x20 || c == '"' || c == '\\' || c == '/') return text.escaped;
  if (code >= 0x80 || !text.unicode_escaped) return text.unicode_escaped;
  static constexpr char kHex[] = "0123456789abcdef";
  for (size_t at = raw.find("\\u00"); at != raw.npos; at = raw.find("\\u00", at + 4)) {
    if (raw.size() < at + 6 ||
        (raw[at + 4] == kHex[code >> 4] && (raw[at + 5] | 0x20) == (kHex[code & 15] | 0x20))) {
      return true;
    }
  }
  return false;
}

// Whether `raw` begins with `mark`, as far as that can be told without unescaping.
bool MayBeginWith(std::string_view raw, std::string_view mark) {
  const size_t size = std::min(raw.size(), mark.size());
  for (size_t i = 0; i < size; ++i) {
    if (raw[i] == '\\') return true;
    if (raw[i] != mark[i]) return false;
  }
  return size == mark.size();
}

}  // namespace

OpenText::OpenText(const Tokenizer::ContentRules& rules) : opaque_(rules.opaque) {
  for (const std::string& mark : rules.marks) {
    if (mark.empty()) {
      opaque_ = false;
      return;
    }
    const auto known = std::find_if(marks_.begin(), marks_.end(),
                                    [&](const Marks& m) { return m.first == mark[0]; });
    if (known == marks_.end()) {
      marks_.push_back({mark[0], {mark}});
    } else {
      known->marks.push_back(mark);
    }
  }
}

bool OpenText::MayHoldMark(const RawText& text) const {
  const std::string_view raw = text.bytes;
  for (const Marks& marks : marks_) {
    if (MayEscape(text, marks.first)) return true;
    if (marks.first == '<' && !text.angle) continue;
    for (size_t at = raw.find(marks.first); at != raw.npos; at = raw.find(marks.first, at + 1)) {
      const std::string_view rest = raw.substr(at);
      for (const std::string& mark : marks.marks) {
        if (MayBeginWith(rest, mark)) return true;
      }
    }
  }
  return false;
}

std::optional<RawText> OpenText::OpenPart(const RawText& text) const {
  if (!opaque_) return std::nullopt;
  RawText part = text;
  std::string_view& raw = part.bytes;
  while (const size_t blank = LeadingBlank(raw)) raw.remove_prefix(blank);
  while (const size_t blank = TrailingBlank(raw)) raw.remove_suffix(blank);
  // Other white space at the ends is rare; marks may hold blanks.
  if (raw.empty() || BeginsWithSpace(raw) || EndsWithSpace(part) || MayHoldMark(text))
    return std::nullopt;
  return part;
}

}  // namespace warmpath::prompt
