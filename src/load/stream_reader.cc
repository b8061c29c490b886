#include "load/stream_reader.h"

#include "codec/json.h"

namespace warmpath::load {
namespace {

uint32_t Count(const codec::Json& object, std::string_view key) {
  const auto value = codec::FindInt(object, key);
  return value && *value > 0 ? static_cast<uint32_t>(*value) : 0;
}

// Text of the first choice: completions carry `text`, chat `delta.content` (or reasoning).
bool HasText(const codec::Json& event) {
  const codec::Json* choices = codec::Find(event, "choices");
  if (choices == nullptr || !choices->is_array() || choices->get_array().empty()) return false;
  const codec::Json& choice = choices->get_array().front();
  if (const auto text = codec::FindString(choice, "text")) return !text->empty();
  const codec::Json* delta = codec::Find(choice, "delta");
  if (delta == nullptr) return false;
  for (std::string_view key : {"content", "reasoning_content", "reasoning"}) {
    if (const auto text = codec::FindString(*delta, key); text && !text->empty()) return true;
  }
  return codec::Find(*delta, "tool_calls") != nullptr;
}

}  // namespace

size_t StreamReader::Feed(std::string_view bytes) {
  if (failed_) return 0;
  size_t texts = 0;
  const auto fed = parser_.Feed(
      bytes, [&](const codec::SseEvent& event) { texts += Event(event.data) ? 1 : 0; });
  if (!fed) failed_ = true;
  return texts;
}

bool StreamReader::Event(std::string_view data) {
  if (data == "[DONE]") {
    done_ = true;
    return false;
  }
  const auto event = codec::ParseJson(data);
  if (!event || codec::Find(*event, "error") != nullptr) {
    failed_ = true;
    return false;
  }
  if (const codec::Json* usage = codec::Find(*event, "usage"); usage && usage->is_object()) {
    usage_.emplace();
    usage_->prompt_tokens = Count(*usage, "prompt_tokens");
    usage_->completion_tokens = Count(*usage, "completion_tokens");
    if (const codec::Json* details = codec::Find(*usage, "prompt_tokens_details")) {
      usage_->cached_tokens = Count(*details, "cached_tokens");
    }
  }
  return HasText(*event);
}

}  // namespace warmpath::load
