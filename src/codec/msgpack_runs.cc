// Runs of small integers, the bulk of what engines publish. Without a branch per width: widths of
// tokens follow no pattern that a predictor could learn.
#include <array>
#include <bit>
#include <cstring>

#include "codec/msgpack.h"

#if defined(__x86_64__)
#include <tmmintrin.h>
#endif

namespace warmpath::codec {

namespace {

template <typename T>
T LoadBig(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  if constexpr (std::endian::native == std::endian::little) {
    if constexpr (sizeof value == 8) return __builtin_bswap64(value);
    return static_cast<T>(__builtin_bswap32(static_cast<uint32_t>(value)));
  }
  return value;
}

// How an unsigned integer of at most 32 bits reads: its value is (8 bytes from the tag, big-endian)
// << left >> right.
struct Form {
  uint8_t length = 0;  // with its tag; 0: another type or width
  uint8_t left = 0;
  uint8_t right = 0;
};

constexpr std::array<Form, 256> kForms = [] {
  std::array<Form, 256> forms{};
  for (size_t tag = 0; tag < 0x80; ++tag) forms[tag] = {1, 0, 56};
  forms[0xcc] = {2, 8, 56};
  forms[0xcd] = {3, 8, 48};
  forms[0xce] = {5, 8, 32};
  return forms;
}();

constexpr size_t kWindow = 8;  // bytes that reading one value looks at

uint32_t ValueAt(const uint8_t* p) {
  const Form form = kForms[*p];
  return static_cast<uint32_t>(LoadBig<uint64_t>(p) << form.left >> form.right);
}

// Both: values from `p` on, at most `max`, until one of another form or fewer than a window before
// `end`. Move `p` and return how many.
size_t ReadRunScalar(const uint8_t*& p, const uint8_t* end, uint32_t* out, size_t max) {
  size_t n = 0;
  for (; n < max && static_cast<size_t>(end - p) >= kWindow; ++n) {
    const uint8_t length = kForms[*p].length;
    if (length == 0) break;
    out[n] = ValueAt(p);
    p += length;
  }
  return n;
}

#if defined(__x86_64__)
// Four values a step: the length of a value is taken for every byte of 16 as if one began there,
// then three shuffles follow the four that do.
__attribute__((target("ssse3"))) size_t ReadRunSsse3(const uint8_t*& p, const uint8_t* end,
                                                     uint32_t* out, size_t max) {
  const __m128i first_tag = _mm_set1_epi8(static_cast<char>(0xcc));
  const __m128i bias = _mm_set1_epi8(0x70);  // from 16 on: the top bit, which shuffles to 0
  const __m128i lengths = _mm_setr_epi8(2, 3, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m128i places = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  constexpr size_t kStep = 4;
  constexpr size_t kStepWindow = 15 + kWindow;  // the fourth begins at 15 at most
  const uint8_t* at = p;
  size_t n = 0;
  while (n + kStep <= max && static_cast<size_t>(end - at) >= kStepWindow) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m128i tag = _mm_adds_epu8(_mm_sub_epi8(bytes, first_tag), bias);
    const __m128i fix = _mm_cmpgt_epi8(bytes, _mm_set1_epi8(-1));
    const __m128i length = _mm_sub_epi8(_mm_shuffle_epi8(lengths, tag), fix);
    const __m128i next = _mm_add_epi8(places, length);
    const __m128i second_next = _mm_shuffle_epi8(next, next);
    const __m128i third_next = _mm_shuffle_epi8(next, second_next);
    const __m128i fourth_next = _mm_shuffle_epi8(next, third_next);
    const auto first = [](__m128i v) __attribute__((target("ssse3"))) {
      return static_cast<size_t>(static_cast<uint32_t>(_mm_cvtsi128_si32(v)) & 0xff);
    };
    const size_t one = first(next), two = first(second_next), three = first(third_next);
    const size_t four = first(fourth_next);
    if (one == 0 || two == one || three == two || four == three) break;
    out[n] = ValueAt(at);
    out[n + 1] = ValueAt(at + one);
    out[n + 2] = ValueAt(at + two);
    out[n + 3] = ValueAt(at + three);
    n += kStep;
    at += four;
  }
  p = at;
  return n + ReadRunScalar(p, end, out + n, max - n);
}
#endif

using ReadRun = size_t (*)(const uint8_t*&, const uint8_t*, uint32_t*, size_t);

ReadRun ChooseReadRun() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("ssse3")) return ReadRunSsse3;
#endif
  return ReadRunScalar;
}

}  // namespace

size_t MsgpackReader::ReadUint32Run(uint32_t* out, size_t max) {
  static const ReadRun read_run = ChooseReadRun();
  if (failed_) return 0;
  const auto* begin = reinterpret_cast<const uint8_t*>(bytes_.data());
  const uint8_t* end = begin + bytes_.size();
  const uint8_t* p = begin + at_;
  size_t n = read_run(p, end, out, max);
  for (; n < max && p < end; ++n) {  // the last few bytes
    const Form form = kForms[*p];
    if (form.length == 0 || form.length > end - p) break;
    uint8_t window[kWindow] = {};
    std::memcpy(window, p, form.length);
    out[n] = ValueAt(window);
    p += form.length;
  }
  at_ = static_cast<size_t>(p - begin);
  return n;
}

size_t MsgpackReader::ReadUint64Run(uint64_t* out, size_t max) {
  if (failed_) return 0;
  constexpr uint8_t kUint64 = 0xcf;
  constexpr size_t kLength = 9;
  const auto* begin = reinterpret_cast<const uint8_t*>(bytes_.data());
  const uint8_t* p = begin + at_;
  size_t n = 0;
  for (size_t left = bytes_.size() - at_; n < max && left >= kLength && *p == kUint64; ++n) {
    out[n] = LoadBig<uint64_t>(p + 1);
    p += kLength;
    left -= kLength;
  }
  at_ = static_cast<size_t>(p - begin);
  return n;
}

size_t MsgpackReader::ReadNilRun(size_t max) {
  if (failed_) return 0;
  const std::string_view rest = bytes_.substr(at_, max);
  const size_t other = rest.find_first_not_of('\xc0');
  const size_t n = other == std::string_view::npos ? rest.size() : other;
  at_ += n;
  return n;
}

}  // namespace warmpath::codec
