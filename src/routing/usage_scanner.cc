#include "routing/usage_scanner.h"

#include <algorithm>

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

std::optional<ResponseUsage> UsageScanner::Finish() {
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
