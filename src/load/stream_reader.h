// Reads the streamed answer of an OpenAI completions or chat request as its bytes arrive: when text
// came, and the usage at the end. Pure state machine; no clock, no I/O.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "codec/sse.h"

namespace warmpath::load {

struct Usage {
  uint32_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
};

class StreamReader {
 public:
  // Returns how many events with text these bytes completed.
  size_t Feed(std::string_view bytes);

  bool done() const { return done_; }      // [DONE] seen
  bool failed() const { return failed_; }  // an error event, broken JSON or an event over 16 MiB
  const std::optional<Usage>& usage() const { return usage_; }

 private:
  bool Event(std::string_view data);  // true when it was one with text

  codec::SseParser parser_{size_t{16} << 20};
  bool done_ = false;
  bool failed_ = false;
  std::optional<Usage> usage_;
};

}  // namespace warmpath::load
