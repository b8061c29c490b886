// Finds the engine's `usage` in a response as it passes by: a JSON body, or the events of a stream.
// Owned by one request; not thread-safe. Costs a substring search per stretch of a stream; only the
// last event that carries usage is parsed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace warmpath::routing {

struct ResponseUsage {
  uint64_t prompt_tokens = 0;
  std::optional<uint64_t> cached_tokens;  // absent: the engine did not say
  std::optional<uint64_t> output_tokens;  // the same
};

class UsageScanner {
 public:
  // Larger bodies and events pass unscanned.
  static constexpr size_t kMaxBody = size_t{4} << 20;
  static constexpr size_t kMaxEvent = size_t{256} << 10;

  enum class Kind { kNone, kJson, kEvents };
  // From the Content-Type of the response; encoded bodies (gzip) are kNone.
  static Kind KindOf(std::string_view content_type, bool encoded);

  explicit UsageScanner(Kind kind) : kind_(kind) {}
  void Feed(std::string_view bytes);
  // After the last byte. `rest`: bytes that were not fed, the last ones.
  std::optional<ResponseUsage> Finish(std::string_view rest = {});

 private:
  void FeedEvents(std::string_view bytes);
  void TakeEvent(std::string_view event);

  const Kind kind_;
  bool too_large_ = false;  // this body, or this event
  std::string buffer_;      // the body, or the unfinished event
  std::string last_;        // the last event with usage
};

// `usage` of an OpenAI response body or stream chunk: chat, completions, embeddings; of Responses
// events inside "response".
std::optional<ResponseUsage> ReadUsage(std::string_view json);

}  // namespace warmpath::routing
