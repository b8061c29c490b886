// Texts that a chat template is known to pass through as they are (Tokenizer::ContentRules), told
// from the inside of their JSON strings. Immutable; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "prompt/json_scan.h"
#include "prompt/tokenizer.h"

namespace warmpath::prompt {

class OpenText {
 public:
  explicit OpenText(const Tokenizer::ContentRules& rules);

  // What of `text` may be put in where a stand-in came out: all of it but the blanks and line ends
  // around it. A template may take those off, and does so around a stand-in as well. Nullopt where
  // it holds a mark, also where that is costly to tell, and where nothing is left. `text` is UTF-8
  // with well-formed escapes.
  std::optional<RawText> OpenPart(const RawText& text) const;

 private:
  struct Marks {
    char first = 0;
    std::vector<std::string> marks;  // that begin with it
  };

  bool MayHoldMark(const RawText& text) const;

  bool opaque_ = false;
  std::vector<Marks> marks_;
};

}  // namespace warmpath::prompt
