#include "codec/sse.h"

#include <fmt/format.h>

namespace warmpath::codec {

Status SseParser::Feed(std::string_view chunk, const std::function<void(const SseEvent&)>& fn) {
  size_t at = 0;
  while (!failed_ && at < chunk.size()) {
    if (skip_newline_) {
      skip_newline_ = false;
      if (chunk[at] == '\n') {
        ++at;
        continue;
      }
    }
    const size_t end = chunk.find_first_of("\r\n", at);
    const std::string_view part = chunk.substr(at, end == std::string_view::npos ? end : end - at);
    if (line_.size() + part.size() + data_.size() > max_event_bytes_) {
      failed_ = true;
      break;
    }
    if (end == std::string_view::npos) {
      line_ += part;
      break;
    }
    skip_newline_ = chunk[end] == '\r';
    at = end + 1;
    if (line_.empty()) {
      EndLine(part, fn);
    } else {
      line_ += part;
      EndLine(line_, fn);
      line_.clear();
    }
  }
  if (failed_) {
    return Fail(Code::kOutOfBounds,
                fmt::format("server-sent event over {} bytes", max_event_bytes_));
  }
  return {};
}

void SseParser::EndLine(std::string_view line, const std::function<void(const SseEvent&)>& fn) {
  if (at_start_) {
    at_start_ = false;
    if (line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
  }
  if (line.empty()) {
    if (has_data_) fn({event_, data_, id_});
    event_.clear();
    data_.clear();
    id_.clear();
    has_data_ = false;
    return;
  }
  const size_t colon = line.find(':');
  const std::string_view field = line.substr(0, colon);
  std::string_view value =
      colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (field == "data") {
    if (has_data_) data_ += '\n';
    data_ += value;
    has_data_ = true;
  } else if (field == "event") {
    event_ = value;
  } else if (field == "id") {
    id_ = value;
  }
}

}  // namespace warmpath::codec
