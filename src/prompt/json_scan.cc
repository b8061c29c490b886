#include "prompt/json_scan.h"

#include <algorithm>
#include <bit>
#include <cstring>

#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace warmpath::prompt {
namespace {

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

int HexDigit(char c) {
  if (IsDigit(c)) return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// Four hex digits at `p`, or -1.
int32_t Hex4(const char* p, const char* end) {
  if (end - p < 4) return -1;
  int32_t code = 0;
  for (int i = 0; i < 4; ++i) {
    const int digit = HexDigit(p[i]);
    if (digit < 0) return -1;
    code = code * 16 + digit;
  }
  return code;
}

// Bit i of special[b] is set for a quote, backslash or control character at bytes[64 * b + i], of
// angle[b] for a '<'. Returns whether a byte is beyond ASCII.
using LookFn = bool (*)(const char* bytes, size_t blocks, uint64_t* special, uint64_t* angle);

#ifdef __SSE2__

bool LookSse2(const char* bytes, size_t blocks, uint64_t* special, uint64_t* angle) {
  const __m128i quote = _mm_set1_epi8('"');
  const __m128i backslash = _mm_set1_epi8('\\');
  const __m128i control = _mm_set1_epi8(0x1F);
  const __m128i less = _mm_set1_epi8('<');
  __m128i any = _mm_setzero_si128();
  for (size_t b = 0; b < blocks; ++b, bytes += 64) {
    uint64_t specials = 0, angles = 0;
    for (int i = 0; i < 64; i += 16) {
      const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i));
      const __m128i found =
          _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, backslash)),
                       _mm_cmpeq_epi8(_mm_min_epu8(v, control), v));
      specials |= static_cast<uint64_t>(_mm_movemask_epi8(found)) << i;
      angles |= static_cast<uint64_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(v, less))) << i;
      any = _mm_or_si128(any, v);
    }
    special[b] = specials;
    angle[b] = angles;
  }
  return _mm_movemask_epi8(any) != 0;
}

__attribute__((target("avx2"))) bool LookAvx2(const char* bytes, size_t blocks, uint64_t* special,
                                              uint64_t* angle) {
  const __m256i quote = _mm256_set1_epi8('"');
  const __m256i backslash = _mm256_set1_epi8('\\');
  const __m256i control = _mm256_set1_epi8(0x1F);
  const __m256i less = _mm256_set1_epi8('<');
  __m256i any = _mm256_setzero_si256();
  for (size_t b = 0; b < blocks; ++b, bytes += 64) {
    uint64_t specials = 0, angles = 0;
    for (int i = 0; i < 64; i += 32) {
      const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + i));
      const __m256i found = _mm256_or_si256(
          _mm256_or_si256(_mm256_cmpeq_epi8(v, quote), _mm256_cmpeq_epi8(v, backslash)),
          _mm256_cmpeq_epi8(_mm256_min_epu8(v, control), v));
      const auto bits = [](__m256i m) __attribute__((target("avx2"))) {
        return static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_epi8(m)));
      };
      specials |= bits(found) << i;
      angles |= bits(_mm256_cmpeq_epi8(v, less)) << i;
      any = _mm256_or_si256(any, v);
    }
    special[b] = specials;
    angle[b] = angles;
  }
  return _mm256_movemask_epi8(any) != 0;
}

const LookFn kLook = __builtin_cpu_supports("avx2") ? LookAvx2 : LookSse2;

#else

bool LookByByte(const char* bytes, size_t blocks, uint64_t* special, uint64_t* angle) {
  bool beyond = false;
  for (size_t b = 0; b < blocks; ++b) {
    special[b] = angle[b] = 0;
    for (size_t i = 0; i < 64; ++i) {
      const auto c = static_cast<uint8_t>(*bytes++);
      special[b] |= uint64_t{c == '"' || c == '\\' || c < 0x20} << i;
      angle[b] |= uint64_t{c == '<'} << i;
      beyond |= c >= 0x80;
    }
  }
  return beyond;
}

const LookFn kLook = LookByByte;

#endif

void AppendUtf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
    return;
  }
  if (code < 0x800) {
    out += static_cast<char>(0xC0 | (code >> 6));
  } else {
    if (code < 0x10000) {
      out += static_cast<char>(0xE0 | (code >> 12));
    } else {
      out += static_cast<char>(0xF0 | (code >> 18));
      out += static_cast<char>(0x80 | ((code >> 12) & 0x3F));
    }
    out += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
  }
  out += static_cast<char>(0x80 | (code & 0x3F));
}

// The character that the escape letter `c` stands for, \u apart; 0 when it is none.
char Unescaped(char c) {
  switch (c) {
    case '"':
    case '\\':
    case '/':
      return c;
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return 0;
  }
}

}  // namespace

TextMarks& TextMarks::operator|=(const TextMarks& other) {
  escaped |= other.escaped;
  unicode_escaped |= other.unicode_escaped;
  angle |= other.angle;
  non_ascii |= other.non_ascii;
  return *this;
}

void JsonScan::Space() {
  while (p_ < end_ && (*p_ == ' ' || *p_ == '\t' || *p_ == '\n' || *p_ == '\r')) ++p_;
}

bool JsonScan::Take(char c) {
  if (p_ == end_ || *p_ != c) return false;
  ++p_;
  return true;
}

// From behind the backslash.
bool JsonScan::Escape() {
  if (p_ == end_) return false;
  const char c = *p_++;
  if (c != 'u') return Unescaped(c) != 0;
  if (Hex4(p_, end_) < 0) return false;
  p_ += 4;
  return true;
}

void JsonScan::LookAhead() {
  window_ = p_;
  const auto left = static_cast<size_t>(end_ - p_);
  const size_t whole = std::min(kWindowBlocks, left / 64);
  non_ascii_ |= kLook(p_, whole, special_, angle_);
  blocks_ = whole;
  const size_t rest = left - whole * 64;
  if (whole == kWindowBlocks || rest == 0) return;
  char last[64] = {};
  std::memcpy(last, p_ + whole * 64, rest);
  non_ascii_ |= kLook(last, 1, special_ + whole, angle_ + whole);
  ++blocks_;
}

bool JsonScan::FindSpecial(bool& angle) {
  while (p_ < end_) {
    auto at = static_cast<size_t>(p_ - window_);
    if (window_ == nullptr || at >= blocks_ * 64) {
      LookAhead();
      at = 0;
    }
    uint64_t from = ~uint64_t{0} << (at % 64);
    for (size_t block = at / 64; block < blocks_; ++block, from = ~uint64_t{0}) {
      angle |= (angle_[block] & from) != 0;
      const uint64_t found = special_[block] & from;
      if (found == 0) continue;
      // What is found behind the end is none of the text.
      p_ = std::min(window_ + block * 64 + std::countr_zero(found), end_);
      return p_ < end_;
    }
    p_ = std::min(window_ + blocks_ * 64, end_);
  }
  return false;
}

bool JsonScan::TakeInside(TextMarks& marks) {
  while (FindSpecial(marks.angle)) {
    if (*p_ == '"') return true;
    if (*p_++ != '\\') return false;
    marks.escaped = true;
    marks.unicode_escaped |= Peek() == 'u';
    if (!Escape()) return false;
  }
  return true;
}

bool JsonScan::String(RawText& out, const KnownStart& known) {
  if (!Take('"')) return false;
  const char* const start = p_;
  out = RawText{known.marks, {}};
  p_ += known.bytes;
  if (!TakeInside(out)) return false;
  out.bytes = {start, static_cast<size_t>(p_ - start)};
  non_ascii_ |= out.non_ascii;
  out.non_ascii = non_ascii_;
  saw_unicode_escape_ |= out.unicode_escaped;
  return Take('"');
}

bool JsonScan::Inside(RawText& out) {
  out = RawText{{}, {p_, static_cast<size_t>(end_ - p_)}};
  const bool all = TakeInside(out) && done();
  out.non_ascii = non_ascii_;
  return all;
}

bool JsonScan::PlainString(std::string_view& out) {
  RawText raw;
  if (!String(raw) || raw.escaped) return false;
  out = raw.bytes;
  return true;
}

bool JsonScan::Word(std::string_view word) {
  if (static_cast<size_t>(end_ - p_) < word.size() ||
      std::memcmp(p_, word.data(), word.size()) != 0) {
    return false;
  }
  p_ += word.size();
  return true;
}

bool JsonScan::Number() {
  const char* const start = p_;
  const auto digits = [this] {
    const char* const first = p_;
    while (p_ < end_ && IsDigit(*p_)) ++p_;
    return p_ - first;
  };
  Take('-');
  const char first = Peek();
  const auto whole = digits();
  if (whole == 0 || (whole > 1 && first == '0')) return false;
  if (Take('.') && digits() == 0) return false;
  if (Take('e') || Take('E')) {
    if (!Take('+')) Take('-');
    if (digits() == 0) return false;
  }
  return static_cast<size_t>(p_ - start) <= kMaxDigits;
}

bool JsonScan::Container(char close, bool keys, size_t depth, bool unicode_escapes) {
  if (depth >= kMaxDepth) return false;
  ++p_;
  Space();
  if (Take(close)) return true;
  RawText key;
  while (true) {
    Space();
    if (keys) {
      if (!String(key)) return false;
      Space();
      if (!Take(':')) return false;
      Space();
    }
    if (!ValueAt(depth + 1, unicode_escapes)) return false;
    Space();
    if (Take(close)) return true;
    if (!Take(',')) return false;
  }
}

bool JsonScan::ValueAt(size_t depth, bool unicode_escapes) {
  if (!CountValue()) return false;
  switch (Peek()) {
    case '{':
      return Container('}', true, depth, unicode_escapes);
    case '[':
      return Container(']', false, depth, unicode_escapes);
    case '"': {
      RawText raw;
      return String(raw) && (unicode_escapes || !saw_unicode_escape_);
    }
    case 't':
      return Word("true");
    case 'f':
      return Word("false");
    case 'n':
      return Word("null");
    default:
      return Number();
  }
}

bool JsonScan::Value(bool unicode_escapes) {
  saw_unicode_escape_ = false;
  return ValueAt(0, unicode_escapes) && (unicode_escapes || !saw_unicode_escape_);
}

bool JsonScan::Bool(bool& out) {
  out = Peek() == 't';
  return Word(out ? "true" : "false");
}

bool JsonScan::Count(uint64_t& out) {
  const char* const start = p_;
  out = 0;
  for (; p_ < end_ && IsDigit(*p_) && p_ - start < 19; ++p_) {
    out = out * 10 + static_cast<uint64_t>(*p_ - '0');
  }
  const auto digits = p_ - start;
  if (digits == 0 || digits > 18 || (digits > 1 && *start == '0')) return false;
  const char next = Peek();
  return next != '.' && next != 'e' && next != 'E' && !IsDigit(next);
}

bool AppendUnescaped(std::string_view raw, std::string& out) {
  const char* p = raw.data();
  const char* const end = p + raw.size();
  while (p < end) {
    const char* const backslash =
        static_cast<const char*>(std::memchr(p, '\\', static_cast<size_t>(end - p)));
    out.append(p, backslash == nullptr ? end : backslash);
    if (backslash == nullptr) return true;
    p = backslash + 1;
    if (p == end) return false;
    const char c = *p++;
    if (c != 'u') {
      const char plain = Unescaped(c);
      if (plain == 0) return false;
      out += plain;
      continue;
    }
    const int32_t first = Hex4(p, end);
    if (first < 0) return false;
    p += 4;
    auto code = static_cast<uint32_t>(first);
    if (code >= 0xD800 && code < 0xE000) {
      if (code >= 0xDC00 || end - p < 6 || p[0] != '\\' || p[1] != 'u') return false;
      const int32_t low = Hex4(p + 2, end);
      if (low < 0xDC00 || low >= 0xE000) return false;
      p += 6;
      code = 0x10000 + ((code - 0xD800) << 10) + (static_cast<uint32_t>(low) - 0xDC00);
    }
    AppendUtf8(out, code);
  }
  return true;
}

}  // namespace warmpath::prompt
