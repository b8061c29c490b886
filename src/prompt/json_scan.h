// Walks strict JSON in place: where values and strings end, nothing is copied. What is not plainly
// valid is a failure: callers then read the body by other means, which judge it. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace warmpath::prompt {

// What bytes inside a JSON string hold.
struct TextMarks {
  bool escaped = false;          // a backslash
  bool unicode_escaped = false;  // a \u
  bool angle = false;            // maybe a '<' that is not escaped
  bool non_ascii = false;        // maybe a byte beyond ASCII

  TextMarks& operator|=(const TextMarks& other);
};

// The inside of a JSON string as it stands in its body, between the quotes.
struct RawText : TextMarks {
  std::string_view bytes;
};

// What is known to stand at the start of a string's inside: so many bytes, with no escape cut off.
struct KnownStart {
  size_t bytes = 0;
  TextMarks marks;
};

class JsonScan {
 public:
  explicit JsonScan(std::string_view text) : p_(text.data()), end_(text.data() + text.size()) {}

  const char* at() const { return p_; }
  bool done() const { return p_ == end_; }
  // Counts a value that the caller takes apart itself; false over the bound, as Value() is.
  bool CountValue() { return ++values_ <= kMaxValues; }
  // Whether a byte beyond ASCII was passed, or is shortly behind; the text is not proven UTF-8
  // here.
  bool non_ascii() const { return non_ascii_; }

  void Space();
  // Takes `c` if it comes next.
  bool Take(char c);
  char Peek() const { return p_ < end_ ? *p_ : '\0'; }
  // A string, from its opening quote. Escapes are well-formed, surrogates are not paired up.
  bool String(RawText& out, const KnownStart& known = {});
  // Up to the end of the text, all of it inside a string.
  bool Inside(RawText& out);
  // A string without escapes.
  bool PlainString(std::string_view& out);
  // Any value; without `unicode_escapes` a \u in one of its strings is a failure.
  bool Value(bool unicode_escapes);
  bool Bool(bool& out);
  // A whole number from 0, of up to 18 digits.
  bool Count(uint64_t& out);

 private:
  static constexpr size_t kMaxDepth = 32;
  static constexpr size_t kMaxValues = 500'000;
  static constexpr size_t kMaxDigits = 30;

  // What strings end at and what is of interest in them, of the bytes from p_ on.
  void LookAhead();
  // Takes what comes inside a string, up to its closing quote or the end of the text.
  bool TakeInside(TextMarks& marks);
  // Goes to the next quote, backslash or control character; false at the end of the text. Sets
  // `angle` when it passes a '<' or there is one shortly behind.
  bool FindSpecial(bool& angle);
  bool Escape();
  bool Number();
  bool Word(std::string_view word);
  bool Container(char close, bool keys, size_t depth, bool unicode_escapes);
  bool ValueAt(size_t depth, bool unicode_escapes);

  const char* p_;
  const char* end_;
  size_t values_ = 0;
  bool non_ascii_ = false;
  bool saw_unicode_escape_ = false;
  // Of the bytes from window_ on, 64 a block, each a bit: see FindSpecial.
  static constexpr size_t kWindowBlocks = 16;
  const char* window_ = nullptr;
  size_t blocks_ = 0;
  uint64_t special_[kWindowBlocks];
  uint64_t angle_[kWindowBlocks];
};

// Appends the text that `raw` stands for. False, with `out` unspecified, where an escape is broken
// or a surrogate alone. `raw` is UTF-8.
bool AppendUnescaped(std::string_view raw, std::string& out);

}  // namespace warmpath::prompt
