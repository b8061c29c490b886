#include "prompt/plain_body.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "codec/json_reader.h"

namespace warmpath::prompt {
namespace {

// Longer ones meet the limits of the other readers.
constexpr size_t kMaxBytes = size_t{16} << 20;
constexpr size_t kMaxParts = 20'000;  // their memory is kept for the thread

// Members no token depends on: neither the engine's normalisation of messages nor a template sees
// them. Those that routing reads are handled apart.
constexpr std::string_view kWithoutTokens[] = {
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "stop_token_ids",
    "user",
    "logprobs",
    "top_logprobs",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "length_penalty",
    "min_tokens",
    "ignore_eos",
    "metadata",
    "store",
    "service_tier",
    "skip_special_tokens",
    "logit_bias",
    "priority",
    "request_id",
};

bool IsWithoutTokens(std::string_view key) {
  return std::find(std::begin(kWithoutTokens), std::end(kWithoutTokens), key) !=
         std::end(kWithoutTokens);
}

// Members that routing or the encoder reads; a body that gives one twice is not plain.
enum Known : uint32_t {
  kModel = 1,
  kStream = 2,
  kStreamOptions = 4,
  kCacheSalt = 8,
  kMaxTokens = 16,
  kMaxCompletionTokens = 32,
  kN = 64,
  kContent = 128,
  kAddSpecialTokens = 256,
};

class Reader {
 public:
  Reader(Api api, std::string_view body, PlainBody& out, const KnownTexts* known)
      : body_(body),
        scan_(body),
        out_(out),
        is_chat_(api == Api::kChatCompletions),
        known_(known) {}

  bool Read() {
    scan_.Space();
    if (!scan_.Take('{')) return false;
    scan_.Space();
    if (scan_.Peek() == '}') return false;
    do {
      scan_.Space();
      const char* const start = scan_.at();
      std::string_view key;
      if (!scan_.PlainString(key) || !TakeColon() || !scan_.CountValue()) return false;
      if (!ReadMember(key, start) || out_.parts.size() > kMaxParts) return false;
      scan_.Space();
    } while (scan_.Take(','));
    if (!scan_.Take('}')) return false;
    scan_.Space();
    if (!scan_.done() || (seen_ & kContent) == 0) return false;
    if (scan_.non_ascii() && !codec::IsUtf8(body_)) return false;
    if (is_chat_) Emit("}");
    if (max_completion_tokens_) {
      out_.view.max_tokens = max_completion_tokens_;
    } else {
      out_.view.max_tokens = max_tokens_;
    }
    out_.view.has_required = true;
    return true;
  }

 private:
  void Emit(std::string_view bytes) {
    if (!bytes.empty()) out_.parts.push_back({.text = {.bytes = bytes}, .is_text = false});
  }
  void EmitText(const RawText& text) {
    out_.parts.push_back({.text = text, .is_text = true});
    ++out_.texts;
  }
  static std::string_view Between(const char* start, const char* end) {
    return {start, static_cast<size_t>(end - start)};
  }
  bool TakeColon() {
    scan_.Space();
    if (!scan_.Take(':')) return false;
    scan_.Space();
    return true;
  }
  bool Once(Known known) {
    if ((seen_ & known) != 0) return false;
    seen_ |= known;
    return true;
  }

  bool ReadMember(std::string_view key, const char* start) {
    if (key == "model") return Once(kModel) && ReadModel();
    if (key == "stream") return Once(kStream) && scan_.Bool(out_.view.stream);
    if (key == "stream_options") return Once(kStreamOptions) && ReadStreamOptions();
    if (key == "cache_salt") {
      std::string_view salt;
      if (!Once(kCacheSalt) || !scan_.PlainString(salt)) return false;
      out_.view.cache_salt = salt;
      return true;
    }
    if (key == "max_tokens") return Once(kMaxTokens) && ReadCount(max_tokens_);
    if (key == "max_completion_tokens") {
      return Once(kMaxCompletionTokens) && ReadCount(max_completion_tokens_);
    }
    if (key == "n") return Once(kN) && ReadN();
    if (IsWithoutTokens(key)) return scan_.Value(false);
    return is_chat_ ? ReadChatMember(key, start) : ReadCompletionsMember(key);
  }

  // A string of which tokens are made.
  bool ReadText(RawText& out) {
    if (known_ == nullptr || scan_.Peek() != '"') return scan_.String(out);
    const auto inside = static_cast<size_t>(scan_.at() - body_.data()) + 1;
    return scan_.String(out, known_->Recognize(body_.substr(inside), out_.proven));
  }

  bool ReadModel() {
    const char* const start = scan_.at();
    std::string_view model;
    if (!scan_.PlainString(model)) return false;
    out_.view.model = model;
    out_.view.model_offset = static_cast<size_t>(start - body_.data());
    out_.view.model_length = model.size() + 2;
    return true;
  }

  bool ReadStreamOptions() {
    if (!scan_.Take('{')) return false;
    scan_.Space();
    if (scan_.Take('}')) return true;
    bool seen = false;
    do {
      scan_.Space();
      std::string_view key;
      if (!scan_.PlainString(key) || !TakeColon()) return false;
      if (key == "include_usage") {
        if (seen || !scan_.Bool(out_.view.include_usage)) return false;
        seen = true;
      } else if (!scan_.Value(false)) {
        return false;
      }
      scan_.Space();
    } while (scan_.Take(','));
    return scan_.Take('}');
  }

  bool ReadCount(std::optional<uint64_t>& out) {
    uint64_t count = 0;
    if (scan_.Peek() == 'n') return scan_.Value(false);  // null: none given
    if (!scan_.Count(count)) return false;
    out = count;
    return true;
  }

  bool ReadN() {
    uint64_t count = 0;
    if (!scan_.Count(count)) return false;
    out_.view.n = count >= 1 && count <= UINT32_MAX ? static_cast<uint32_t>(count) : 1;
    return true;
  }

  bool ReadCompletionsMember(std::string_view key) {
    if (key == "prompt") {
      RawText text;
      if (!Once(kContent) || !ReadText(text)) return false;
      EmitText(text);
      return true;
    }
    if (key == "add_special_tokens") {
      return Once(kAddSpecialTokens) && scan_.Bool(out_.add_special_tokens);
    }
    if (key == "truncate_prompt_tokens" || key == "truncation_side" || key == "prompt_embeds" ||
        key == "suffix") {
      return false;
    }
    return scan_.Value(false);
  }

  bool ReadChatMember(std::string_view key, const char* start) {
    // What it does is not told by the texts alone.
    if (key == "continue_final_message") return false;
    Emit(out_.parts.empty() ? "{" : ",");
    if (key != "messages") {
      if (!scan_.Value(true)) return false;
      Emit(Between(start, scan_.at()));
      return true;
    }
    if (!Once(kContent)) return false;
    kept_ = static_cast<size_t>(start - body_.data());
    if (!scan_.Take('[')) return false;
    do {
      scan_.Space();
      if (!ReadMessage() || out_.parts.size() > kMaxParts) return false;
      scan_.Space();
    } while (scan_.Take(','));
    if (!scan_.Take(']')) return false;
    Emit(body_.substr(kept_, static_cast<size_t>(scan_.at() - body_.data()) - kept_));
    return true;
  }

  // Sets a text apart from the bytes around it, which keep its quotes.
  void CutOut(const RawText& text) {
    const auto start = static_cast<size_t>(text.bytes.data() - body_.data());
    Emit(body_.substr(kept_, start - kept_));
    EmitText(text);
    kept_ = start + text.bytes.size();
  }

  bool ReadMessage() {
    if (!scan_.CountValue() || !scan_.Take('{')) return false;
    scan_.Space();
    if (scan_.Take('}')) return true;
    bool has_content = false;
    do {
      scan_.Space();
      std::string_view key;
      if (!scan_.PlainString(key) || !TakeColon() || !scan_.CountValue()) return false;
      if (key != "content") {
        if (!scan_.Value(true)) return false;
      } else {
        if (has_content) return false;
        has_content = true;
        if (!ReadContent()) return false;
      }
      scan_.Space();
    } while (scan_.Take(','));
    return scan_.Take('}');
  }

  bool ReadContent() {
    RawText text;
    if (scan_.Peek() == '"') {
      if (!ReadText(text)) return false;
      CutOut(text);
      return true;
    }
    if (!scan_.Take('[')) return scan_.Value(true);
    scan_.Space();
    if (scan_.Take(']')) return true;
    do {
      scan_.Space();
      if (scan_.Peek() != '{') {
        if (!scan_.Value(true)) return false;
      } else if (!ReadContentPart() || out_.parts.size() > kMaxParts) {
        return false;
      }
      scan_.Space();
    } while (scan_.Take(','));
    return scan_.Take(']');
  }

  bool ReadContentPart() {
    if (!scan_.CountValue()) return false;
    scan_.Take('{');
    scan_.Space();
    if (scan_.Take('}')) return true;
    bool has_type = false, is_text_type = false, has_text = false, is_string = false;
    RawText text;
    do {
      scan_.Space();
      std::string_view key;
      if (!scan_.PlainString(key) || !TakeColon() || !scan_.CountValue()) return false;
      if (key == "type") {
        if (has_type) return false;
        has_type = true;
        RawText type;
        if (scan_.Peek() != '"') {
          if (!scan_.Value(true)) return false;
        } else if (!scan_.String(type)) {
          return false;
        }
        is_text_type = type.bytes == "text";
      } else if (key == "text") {
        if (has_text) return false;
        has_text = true;
        is_string = scan_.Peek() == '"';
        if (is_string ? !ReadText(text) : !scan_.Value(true)) return false;
      } else if (!scan_.Value(true)) {
        return false;
      }
      scan_.Space();
    } while (scan_.Take(','));
    if (!scan_.Take('}')) return false;
    if (is_text_type && is_string) CutOut(text);
    return true;
  }

  const std::string_view body_;
  JsonScan scan_;
  PlainBody& out_;
  const bool is_chat_;
  const KnownTexts* const known_;
  uint32_t seen_ = 0;
  size_t kept_ = 0;  // of the body, what is not in a part yet begins here
  std::optional<uint64_t> max_tokens_;
  std::optional<uint64_t> max_completion_tokens_;
};

}  // namespace

bool ReadPlainBody(Api api, std::string_view body, PlainBody& out, const KnownTexts* known) {
  if (api != Api::kChatCompletions && api != Api::kCompletions) return false;
  if (body.size() > kMaxBytes) return false;
  out.view = RequestView{};
  out.view.api = api;
  out.parts.clear();
  out.texts = 0;
  out.add_special_tokens = true;
  out.proven.Clear();
  return Reader(api, body, out, known).Read();
}

}  // namespace warmpath::prompt
