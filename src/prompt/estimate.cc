#include "prompt/estimate.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>

#include "base/hash.h"
#include "codec/json_reader.h"
#include "prompt/image_size.h"

namespace warmpath::prompt {
namespace {

using codec::JsonCursor;
using codec::JsonKind;
using kv::TokenId;

constexpr size_t kMaxPrompts = 4096;
// Text is bounded by the body; what a short link to a picture or a film stands for is bounded here.
constexpr uint64_t kMaxTokensPerImage = 1 << 16;
constexpr uint64_t kMaxMediaTokens = 1 << 20;  // of one body
// llm-d's defaults for a film: 10 s, two frames a second, 640x360 pixels, 1024 pixels per token.
constexpr uint64_t kVideoTokens = 20 * (640 * 360 / 1024);

// One-to-one: equal ids mean equal input.
TokenId Mix(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352d;
  x ^= x >> 15;
  x *= 0x846ca68b;
  return x ^ (x >> 16);
}

// Text in, ids out; four bytes each, counted across calls.
class PseudoTokens {
 public:
  void Text(std::string_view text) {
    for (; !text.empty() && pending_ > 0; text.remove_prefix(1)) Byte(text.front());
    while (text.size() >= 4) {
      const auto byte = [&](size_t i) { return uint32_t{static_cast<uint8_t>(text[i])}; };
      ids_.push_back(Mix(byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24));
      text.remove_prefix(4);
    }
    for (const char c : text) Byte(c);
  }
  void Id(TokenId id) {
    Flush();
    ids_.push_back(id);
  }
  // `count` ids that follow from `source` alone.
  void Media(std::string_view source, uint64_t count) {
    Flush();
    const auto start = static_cast<uint32_t>(Xxh3(source, 0));
    for (uint64_t i = 0; i < count; ++i) ids_.push_back(Mix(start + static_cast<uint32_t>(i)));
  }
  void Flush() {
    // A short rest never equals the same bytes followed by zeros.
    if (pending_ > 0) ids_.push_back(Mix(word_ ^ Mix(pending_)));
    word_ = pending_ = 0;
  }
  std::vector<TokenId> Take() {
    Flush();
    return std::move(ids_);
  }

 private:
  void Byte(char c) {
    word_ |= uint32_t{static_cast<uint8_t>(c)} << (8 * pending_);
    if (++pending_ < 4) return;
    ids_.push_back(Mix(word_));
    word_ = pending_ = 0;
  }

  std::vector<TokenId> ids_;
  uint32_t word_ = 0;
  uint32_t pending_ = 0;  // bytes of `word_` in use
};

class Estimator {
 public:
  explicit Estimator(const EstimateOptions& options) : options_(options) {}

  // One member of the body. A member given twice counts as the last one says.
  Status Member(Api api, std::string_view key, JsonCursor& value) {
    if (api == Api::kGenerate) return key == "token_ids" ? Prompts(value) : Status{};
    if (api == Api::kEmbeddings) return key == "input" ? Prompts(value) : Status{};
    if (api == Api::kCompletions || api == Api::kImages)
      return key == "prompt" ? Prompts(value) : Status{};
    if (key == "tools" || key == "documents") return Section(key == "tools" ? 0 : 2, value);
    if (key == "system" || key == "instructions") return Section(1, value);
    const bool turns = api == Api::kResponses       ? key == "input"
                       : api == Api::kConversations ? key == "items"
                                                    : key == "messages";
    return turns ? Section(3, value) : Status{};
  }

  std::vector<std::vector<TokenId>> Take() {
    for (auto& section : sections_) {
      if (!section) continue;
      const auto ids = section->Take();
      if (prompts_.empty()) prompts_.emplace_back();
      prompts_[0].insert(prompts_[0].end(), ids.begin(), ids.end());
    }
    return std::move(prompts_);
  }

 private:
  // Templates put tools and system text before the messages, wherever they stand in the body.
  Status Section(size_t which, JsonCursor& value) {
    PseudoTokens& out = sections_[which].emplace();
    if (which == 0 || which == 2) return Raw(value, out);
    WP_TRY(const JsonKind kind, value.Kind());
    if (kind != JsonKind::kArray) return Content(kind, value, out);
    return value.ForEachElement([&](size_t, JsonCursor& element) { return Turn(element, out); });
  }

  Status Raw(JsonCursor& value, PseudoTokens& out) {
    WP_TRY(const std::string_view raw, value.Raw());
    if (raw != "null") out.Text(raw);
    return {};
  }

  // A message: its role, its content, and whatever else it says in writing.
  Status Turn(JsonCursor& value, PseudoTokens& out) {
    WP_TRY(const JsonKind kind, value.Kind());
    if (kind != JsonKind::kObject) return Content(kind, value, out);
    // Content parts stand here too (Anthropic's system blocks, items of the responses API).
    return Part(value, out);
  }

  // A string, a list of parts, or one part.
  Status Content(JsonKind kind, JsonCursor& value, PseudoTokens& out) {
    switch (kind) {
      case JsonKind::kString: {
        WP_TRY(const std::string_view text, value.String());
        out.Text(text);
        return {};
      }
      case JsonKind::kArray:
        return value.ForEachElement([&](size_t, JsonCursor& element) -> Status {
          WP_TRY(const JsonKind inner, element.Kind());
          return Content(inner, element, out);
        });
      case JsonKind::kObject:
        return Part(value, out);
      case JsonKind::kNull:
        return {};
      default:
        return Raw(value, out);
    }
  }

  // Members that say what kind of part this is carry no text of their own.
  Status Part(JsonCursor& value, PseudoTokens& out) {
    return value.ForEachField([&](std::string_view key, JsonCursor& member) -> Status {
      if (key == "type" || key == "cache_control" || key == "detail") return {};
      if (key == "image_url" || key == "source") return Media(member, out, false);
      if (key == "video_url") return Media(member, out, true);
      if (key == "input_audio") {
        WP_TRY(const std::string_view raw, member.Raw());
        MediaTokens(raw, 1, out);
        return {};
      }
      if (key == "tool_calls" || key == "input" || key == "arguments") return Raw(member, out);
      WP_TRY(const JsonKind kind, member.Kind());
      return Content(kind, member, out);
    });
  }

  // A link as a string, {url}, or Anthropic's {type, media_type, data}.
  Status Media(JsonCursor& value, PseudoTokens& out, bool is_video) {
    WP_TRY(const JsonKind kind, value.Kind());
    const auto add = [&](JsonCursor& link, bool is_data) -> Status {
      const auto text = link.String();
      if (text) MediaTokens(*text, is_video ? kVideoTokens : ImageTokens(*text, is_data), out);
      return {};
    };
    if (kind == JsonKind::kString) return add(value, false);
    if (kind != JsonKind::kObject) return {};
    return value.ForEachField([&](std::string_view key, JsonCursor& member) -> Status {
      if (key == "url" || key == "data") return add(member, key == "data");
      return {};
    });
  }

  void MediaTokens(std::string_view source, uint64_t count, PseudoTokens& out) {
    count = std::min(count, kMaxMediaTokens - media_tokens_);
    media_tokens_ += count;
    out.Media(source, count);
  }

  uint64_t ImageTokens(std::string_view link, bool is_data) const {
    if (options_.image_static) {
      return std::min<uint64_t>(options_.image_static_tokens, kMaxTokensPerImage);
    }
    ImageSize size{.width = options_.image_width, .height = options_.image_height};
    if (const auto own = is_data ? SizeOfBase64Image(link) : SizeOfDataUrl(link)) size = *own;
    const uint64_t pixels = uint64_t{size.width} * size.height;
    const uint64_t tokens = pixels / std::max(options_.image_factor, uint32_t{1});
    return std::clamp<uint64_t>(tokens, 1, kMaxTokensPerImage);
  }

  // A string, [strings], [ids] or [[ids]]; ids stay as they are.
  Status Prompts(JsonCursor& value) {
    prompts_.clear();
    WP_TRY(const JsonKind kind, value.Kind());
    if (kind == JsonKind::kString) return Prompt(value);
    if (kind != JsonKind::kArray) return {};
    std::vector<TokenId> flat;
    bool has_flat = false;
    WP_RETURN_IF_ERROR(value.ForEachElement([&](size_t, JsonCursor& element) -> Status {
      WP_TRY(const JsonKind inner, element.Kind());
      if (inner == JsonKind::kNumber) {
        has_flat = true;
        AddId(element, flat);
        return {};
      }
      if (inner == JsonKind::kString) return Prompt(element);
      if (inner != JsonKind::kArray) return {};
      WP_RETURN_IF_ERROR(CheckCount());
      auto& ids = prompts_.emplace_back();
      return element.ForEachElement([&](size_t, JsonCursor& id) -> Status {
        AddId(id, ids);
        return {};
      });
    }));
    if (has_flat) prompts_.push_back(std::move(flat));
    return {};
  }

  Status Prompt(JsonCursor& value) {
    WP_RETURN_IF_ERROR(CheckCount());
    WP_TRY(const std::string_view text, value.String());
    PseudoTokens out;
    out.Text(text);
    prompts_.push_back(out.Take());
    return {};
  }

  Status CheckCount() const {
    if (prompts_.size() < kMaxPrompts) return {};
    return Fail(Code::kUnsupported, "too many prompts");
  }

  static void AddId(JsonCursor& value, std::vector<TokenId>& ids) {
    const auto id = value.Int();
    if (id && *id >= 0 && *id <= UINT32_MAX) ids.push_back(static_cast<TokenId>(*id));
  }

  const EstimateOptions& options_;
  std::array<std::optional<PseudoTokens>, 4> sections_;  // tools, system, documents, messages
  std::vector<std::vector<TokenId>> prompts_;
  uint64_t media_tokens_ = 0;
};

bool HasPromptText(Api api) {
  return api != Api::kTokenize && api != Api::kDetokenize && api != Api::kOther;
}

}  // namespace

Result<std::vector<std::vector<TokenId>>> EstimateTokens(Api api, std::string_view body,
                                                         const EstimateOptions& options) {
  if (!HasPromptText(api)) return Fail(Code::kUnsupported, "no prompt text in this API");
  // The server has bounded the body already.
  codec::JsonReadLimits limits;
  limits.max_bytes = std::max(limits.max_bytes, body.size());
  Estimator estimator(options);
  const auto status = codec::ReadJsonObject(
      body,
      [&](std::string_view key, JsonCursor& value) { return estimator.Member(api, key, value); },
      limits);
  if (!status) {
    const bool unsupported = status.error().code == Code::kUnsupported;
    return Fail(unsupported ? Code::kUnsupported : Code::kInvalidArgument, status.error().message);
  }
  return estimator.Take();
}

}  // namespace warmpath::prompt
