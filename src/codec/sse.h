// Server-sent events out of a byte stream cut anywhere. One parser per stream; not thread-safe.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace warmpath::codec {

struct SseEvent {
  std::string_view event;  // "" when the stream gave none ("message")
  std::string_view data;   // data lines joined by \n
  std::string_view id;     // of this event only
};

class SseParser {
 public:
  explicit SseParser(size_t max_event_bytes = size_t{4} << 20)
      : max_event_bytes_(max_event_bytes) {}

  // Calls `fn` for each event completed by `chunk` (views live during the call). Lines end with \n,
  // \r\n or \r; comments and unknown fields are dropped; an event without data is not reported.
  // kOutOfBounds when one event grows over the limit: the parser is then done.
  Status Feed(std::string_view chunk, const std::function<void(const SseEvent&)>& fn);

  // True between events: nothing is pending.
  bool idle() const { return line_.empty() && !has_data_; }

 private:
  void EndLine(std::string_view line, const std::function<void(const SseEvent&)>& fn);

  const size_t max_event_bytes_;
  std::string line_;  // an unfinished line
  std::string event_;
  std::string data_;
  std::string id_;
  bool has_data_ = false;
  bool skip_newline_ = false;  // a \r ended the last line: a \n right after belongs to it
  bool at_start_ = true;       // a byte-order mark may come first
  bool failed_ = false;
};

}  // namespace warmpath::codec
