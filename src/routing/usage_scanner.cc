#include "routing/usage_scanner.h"

#include <algorithm>
#include <charconv>

#include "base/units.h"
#include "codec/json_reader.h"
#include "codec/sse.h"

namespace warmpath::routing {
namespace {

using codec::JsonCursor;
using codec::JsonKind;

constexpr std::string_view kUsageKey = "\"usage\"";

bool IsObject(JsonCursor& value) {
  const auto kind = value.Kind();
  return kind && *kind == JsonKind::kObject;
}

std::optional<uint64_t> Count(JsonCursor& value) {
  const auto number = value.Int();
  if (!number || *number < 0) return std::nullopt;
  return static_cast<uint64_t>(*number);
}

Status ReadUsageObject(JsonCursor& usage, std::optional<ResponseUsage>& out) {
  if (!IsObject(usage)) return {};
  ResponseUsage found;
  bool has_prompt = false;
  WP_RETURN_IF_ERROR(usage.ForEachField([&](std::string_view key, JsonCursor& value) -> Status {
    if (key == "prompt_tokens" || key == "input_tokens") {
      if (const auto count = Count(value)) {
        found.prompt_tokens = *count;
        has_prompt = true;
      }
    } else if (key == "completion_tokens" || key == "output_tokens") {
      found.output_tokens = Count(value);
    } else if ((key == "prompt_tokens_details" || key == "input_tokens_details") &&
               IsObject(value)) {
      return value.ForEachField([&](std::string_view name, JsonCursor& member) -> Status {
        if (name == "cached_tokens") found.cached_tokens = Count(member);
        return {};
      });
    }
    return {};
  }));
  if (has_prompt) out = found;
  return {};
}

// Reads what engines write: objects of plain members, without a look at what stands before. Gives
// up on anything else.
class UsageText {
 public:
  explicit UsageText(std::string_view text) : text_(text) {}

  bool Take(char c) {
    SkipBlanks();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  // Without escapes.
  bool String(std::string_view& out) {
    if (!Take('"')) return false;
    const size_t end = text_.find_first_of("\"\\", at_);
    if (end == std::string_view::npos || text_[end] == '\\') return false;
    out = text_.substr(at_, end - at_);
    at_ = end + 1;
    return true;
  }
  // A whole number or null, which leaves `out` empty.
  bool Number(std::optional<uint64_t>& out) {
    SkipBlanks();
    out.reset();
    if (text_.substr(at_).starts_with("null")) {
      at_ += 4;
      return true;
    }
    if (at_ == text_.size()) return false;
    uint64_t number = 0;
    const char* const begin = text_.data() + at_;
    const char* const end = text_.data() + text_.size();
    const auto [stop, error] = std::from_chars(begin, end, number);
    const bool leading_zero = *begin == '0' && stop != begin + 1;
    if (error != std::errc() || stop == end || leading_zero || number > INT64_MAX) return false;
    if (*stop == '.' || *stop == 'e' || *stop == 'E') return false;
    out = number;
    at_ += static_cast<size_t>(stop - begin);
    return true;
  }
  // The members of an object behind its brace; `member` reads a value.
  template <typename Member>
  bool Members(const Member& member) {
    if (Take('}')) return true;
    do {
      std::string_view key;
      if (!String(key) || !Take(':') || !member(key)) return false;
    } while (Take(','));
    return Take('}');
  }
  // What follows closes one object, and that is all.
  bool ClosesOne() {
    int depth = 1;
    for (; at_ < text_.size() && depth > 0; ++at_) {
      const char c = text_[at_];
      if (c == '"') {
        do {
          at_ = text_.find_first_of("\"\\", at_ + 1);
          if (at_ == std::string_view::npos) return false;
          if (text_[at_] == '"') break;
          ++at_;  // what a backslash escapes
        } while (true);
      } else if (c == '{' || c == '[') {
        ++depth;
      } else if (c == '}' || c == ']') {
        --depth;
      }
    }
    if (depth > 0 || text_[at_ - 1] != '}') return false;
    SkipBlanks();
    return at_ == text_.size();
  }

 private:
  void SkipBlanks() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }

  std::string_view text_;
  size_t at_ = 0;
};

// The last usage of `json`, where it is a member of the whole: what ReadUsage would end with. Empty
// when this cannot be told at a glance.
std::optional<ResponseUsage> GlanceAtUsage(std::string_view json) {
  const size_t key = json.rfind(kUsageKey);
  if (key == std::string_view::npos || key == 0 || json[key - 1] == '\\') return std::nullopt;
  if (json[json.find_first_not_of(" \t\r\n")] != '{') return std::nullopt;
  UsageText text(json.substr(key + kUsageKey.size()));
  if (!text.Take(':') || !text.Take('{')) return std::nullopt;
  ResponseUsage usage;
  std::optional<uint64_t> prompt_tokens;
  const auto details = [&](std::string_view name) {
    std::optional<uint64_t> count;
    if (!text.Number(count)) return false;
    if (name == "cached_tokens") usage.cached_tokens = count;
    return true;
  };
  const bool plain = text.Members([&](std::string_view name) {
    if (name == "prompt_tokens_details" || name == "input_tokens_details") {
      std::optional<uint64_t> none;
      return text.Take('{') ? text.Members(details) : text.Number(none) && !none;
    }
    std::optional<uint64_t> count;
    if (!text.Number(count)) return false;
    if (name == "prompt_tokens" || name == "input_tokens") {
      if (count) prompt_tokens = count;
    } else if (name == "completion_tokens" || name == "output_tokens") {
      usage.output_tokens = count;
    }
    return true;
  });
  if (!plain || !prompt_tokens || !text.ClosesOne()) return std::nullopt;
  usage.prompt_tokens = *prompt_tokens;
  return usage;
}

// End of the first event in `text` (past its empty line), or npos.
size_t EventEnd(std::string_view text) {
  const size_t lf = text.find("\n\n");
  const size_t crlf = text.substr(0, lf).find("\r\n\r\n");
  if (crlf != std::string_view::npos) return crlf + 4;
  return lf == std::string_view::npos ? lf : lf + 2;
}

// Whether some `"usage"` is an object: with include_usage every chunk has the key, mostly null.
bool CarriesUsage(std::string_view event) {
  for (size_t at = event.find(kUsageKey); at != std::string_view::npos;
       at = event.find(kUsageKey, at + 1)) {
    std::string_view rest = event.substr(at + kUsageKey.size());
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t:"), rest.size()));
    if (rest.starts_with('{')) return true;
  }
  return false;
}

}  // namespace

std::optional<ResponseUsage> ReadUsage(std::string_view json) {
  if (const auto usage = GlanceAtUsage(json)) return usage;
  std::optional<ResponseUsage> usage;
  const Status read =
      codec::ReadJsonObject(json, [&](std::string_view key, JsonCursor& value) -> Status {
        if (key == "usage") return ReadUsageObject(value, usage);
        if (key == "response" && IsObject(value)) {
          return value.ForEachField([&](std::string_view name, JsonCursor& member) -> Status {
            return name == "usage" ? ReadUsageObject(member, usage) : Status();
          });
        }
        return {};
      });
  if (!read) return std::nullopt;
  return usage;
}

UsageScanner::Kind UsageScanner::KindOf(std::string_view content_type, bool encoded) {
  if (encoded) return Kind::kNone;
  const std::string_view type = Trim(content_type.substr(0, content_type.find(';')));
  if (EqualsIgnoreCase(type, "text/event-stream")) return Kind::kEvents;
  if (EqualsIgnoreCase(type, "application/json")) return Kind::kJson;
  return Kind::kNone;
}

void UsageScanner::Feed(std::string_view bytes) {
  if (kind_ == Kind::kEvents) {
    FeedEvents(bytes);
  } else if (kind_ == Kind::kJson && !too_large_) {
    too_large_ = bytes.size() > kMaxBody - buffer_.size();
    if (too_large_) {
      buffer_ = std::string();
    } else {
      buffer_.append(bytes);
    }
  }
}

void UsageScanner::FeedEvents(std::string_view bytes) {
  if (!buffer_.empty() || too_large_) {
    // The boundary may lie across the cut: at most three bytes of it came before.
    const size_t kept = std::min<size_t>(buffer_.size(), 3);
    const size_t searched = buffer_.size() - kept;
    buffer_.append(bytes);
    const size_t end = EventEnd(std::string_view(buffer_).substr(searched));
    if (end == std::string_view::npos) {
      if (buffer_.size() > kMaxEvent) {
        too_large_ = true;
        buffer_.erase(0, buffer_.size() - 3);
      }
      return;
    }
    if (!too_large_) TakeEvent(std::string_view(buffer_).substr(0, searched + end));
    too_large_ = false;
    bytes.remove_prefix(searched + end - (buffer_.size() - bytes.size()));
    buffer_.clear();
  }
  for (size_t end = EventEnd(bytes); end != std::string_view::npos; end = EventEnd(bytes)) {
    TakeEvent(bytes.substr(0, end));
    bytes.remove_prefix(end);
  }
  buffer_ = bytes;
}

void UsageScanner::TakeEvent(std::string_view event) {
  if (CarriesUsage(event)) last_ = event;
}

std::optional<ResponseUsage> UsageScanner::Finish(std::string_view rest) {
  if (kind_ == Kind::kJson && buffer_.empty() && rest.size() <= kMaxBody && !too_large_) {
    return CarriesUsage(rest) ? ReadUsage(rest) : std::nullopt;
  }
  Feed(rest);
  if (kind_ == Kind::kJson) {
    if (!CarriesUsage(buffer_)) return std::nullopt;
    return ReadUsage(buffer_);
  }
  if (last_.empty()) return std::nullopt;
  std::optional<ResponseUsage> usage;
  codec::SseParser parser(kMaxEvent + 1);
  const Status fed =
      parser.Feed(last_, [&usage](const codec::SseEvent& event) { usage = ReadUsage(event.data); });
  return fed ? usage : std::nullopt;
}

}  // namespace warmpath::routing
