#include "prompt/begun_body.h"

#include <array>
#include <cstddef>
#include <cstdint>

#include "prompt/json_scan.h"

namespace warmpath::prompt {
namespace {

constexpr size_t kMaxDepth = 32;

// Where a chat body's values stand: the depth of what they are in.
constexpr size_t kInBody = 1;
constexpr size_t kInMessages = 2;
constexpr size_t kInMessage = 3;
constexpr size_t kInContent = 4;
constexpr size_t kInPart = 5;

// Whether the escape at the start of `raw` is whole; that of a character beyond U+FFFF is two.
bool IsWholeEscape(std::string_view raw) {
  if (raw.size() < 2) return false;
  if (raw[1] != 'u') return true;
  if (raw.size() < 6) return false;
  const bool high_surrogate =
      (raw[2] | 0x20) == 'd' && std::string_view("89abAB").find(raw[3]) != raw.npos;
  return !high_surrogate || raw.size() >= 12;
}

// How much of the inside of a string that goes on is sure to be whole characters, the escapes and
// the UTF-8 being well-formed.
size_t WholeCharacters(std::string_view raw) {
  constexpr size_t kLongest = 12;  // of one character's escapes
  size_t at = raw.size() < kLongest ? 0 : raw.size() - kLongest;
  // A backslash begins an escape where an even number of them precedes it.
  size_t backslashes = 0;
  while (backslashes < at && raw[at - backslashes - 1] == '\\') ++backslashes;
  at += backslashes % 2;
  while ((at = raw.find('\\', at)) != raw.npos) {
    if (!IsWholeEscape(raw.substr(at))) return at;
    at += raw[at + 1] == 'u' ? 6 : 2;
  }
  size_t lead = raw.size();
  while (lead > 0 && raw.size() - lead < 4) {
    const auto byte = static_cast<uint8_t>(raw[--lead]);
    if (byte < 0x80) break;
    if (byte < 0xC0) continue;
    const size_t length = byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
    return raw.size() - lead < length ? lead : raw.size();
  }
  return raw.size();
}

class Completer {
 public:
  Completer(Api api, std::string_view begun)
      : begun_(begun), scan_(begun), is_chat_(api == Api::kChatCompletions) {}

  std::string Complete() {
    scan_.Space();
    if (!scan_.Take('{')) return {};
    Open('}');
    while (depth_ > 0 && Step()) {
    }
    if (!has_text_) return {};
    std::string body;
    body.reserve(cut_.at + 64);
    body += begun_.substr(0, cut_.at);
    if (cut_.in_string) body += '"';
    for (size_t depth = cut_.depth; depth > 0; --depth) {
      if (depth == kInMessage && !cut_.has_role) body += R"(,"role":"user")";
      body += levels_[depth - 1].close;
    }
    return body;
  }

 private:
  struct Level {
    char close = 0;
    bool empty = true;
    bool has_text = false;
    bool is_named = false;      // a message by its role, a part by its type
    std::string_view key = {};  // of the member being read
  };
  // Where the beginning may end.
  struct Cut {
    size_t at = 0;
    size_t depth = 0;
    bool in_string = false;
    bool has_role = false;
  };

  void Open(char close) { levels_[depth_++] = Level{.close = close}; }
  Level& top() { return levels_[depth_ - 1]; }
  bool in_messages() const {
    return is_chat_ && depth_ >= kInMessages && levels_[kInBody - 1].key == "messages" &&
           levels_[kInMessages - 1].close == ']';
  }

  // One member or element, or the end of what they are in. False: no more can be told.
  bool Step() {
    Level& level = top();
    scan_.Space();
    if (scan_.Take(level.close)) {
      --depth_;
      if (depth_ > 0) EndValue();
      return true;
    }
    if (!level.empty && !scan_.Take(',')) return false;
    scan_.Space();
    if (level.close == '}') {
      RawText key;
      if (!scan_.String(key)) return false;
      level.key = key.bytes;
      scan_.Space();
      if (!scan_.Take(':')) return false;
      scan_.Space();
    }
    level.empty = false;
    return Value();
  }

  bool Value() {
    const char first = scan_.Peek();
    if (first == '{' || first == '[') {
      if (depth_ == kMaxDepth) return false;
      scan_.Take(first);
      Open(first == '{' ? '}' : ']');
      return true;
    }
    if (first == '"') {
      const char* const start = scan_.at() + 1;
      RawText text;
      if (scan_.String(text)) {
        EndValue();
        return true;
      }
      EndText(static_cast<size_t>(start - begun_.data()));
      return false;
    }
    // The last digit may not be.
    if (!scan_.Value(true) || scan_.done()) return false;
    EndValue();
    return true;
  }

  // Whether the value at hand is the prompt, the content of a message or the text of a part.
  bool IsText() {
    if (!is_chat_) return depth_ == kInBody && top().key == "prompt";
    if (!in_messages()) return false;
    if (depth_ == kInMessage) return top().close == '}' && top().key == "content";
    return depth_ == kInPart && levels_[kInMessage - 1].key == "content" && top().close == '}' &&
           levels_[kInContent - 1].close == ']' && top().key == "text" && top().is_named;
  }

  // Whether what is here may be read without what follows it: a message or a part once it has its
  // text, and the parts of a content.
  bool IsInText() {
    if (depth_ == kInMessage) return top().has_text;
    if (levels_[kInMessage - 1].key != "content") return false;
    return depth_ == kInContent ? top().close == ']' : depth_ == kInPart && top().has_text;
  }

  // Behind a whole value.
  void EndValue() {
    Level& level = top();
    if (level.key == (depth_ == kInPart ? "type" : "role")) level.is_named = true;
    if (IsText()) level.has_text = has_text_ = true;
    if (depth_ == kInBody || (in_messages() && (depth_ == kInMessages || IsInText()))) {
      CutAt(static_cast<size_t>(scan_.at() - begun_.data()), /*in_string=*/false);
    }
  }

  // In a string from `start` on that goes on.
  void EndText(size_t start) {
    if (!IsText()) return;
    const size_t size = WholeCharacters(begun_.substr(start));
    if (size == 0) return;
    has_text_ = true;
    CutAt(start + size, /*in_string=*/true);
  }

  void CutAt(size_t at, bool in_string) {
    const Level& message = levels_[kInMessage - 1];
    cut_ = {at, depth_, in_string, depth_ < kInMessage || message.is_named || message.close == ']'};
  }

  const std::string_view begun_;
  JsonScan scan_;
  const bool is_chat_;
  std::array<Level, kMaxDepth> levels_;
  size_t depth_ = 0;
  bool has_text_ = false;
  Cut cut_;
};

}  // namespace

std::string CompleteBody(Api api, std::string_view begun) {
  if (api != Api::kChatCompletions && api != Api::kCompletions) return {};
  return Completer(api, begun).Complete();
}

}  // namespace warmpath::prompt
