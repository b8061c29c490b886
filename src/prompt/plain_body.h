// A request body in the form nearly all have, read in one pass and in place: what ReadRequest tells
// of it, and where its texts stand.
//
// Plain is strict JSON in UTF-8 with each known member given once and in its usual type. Of other
// bodies nothing is told here: ReadRequest and the encoder's full path judge them. For plain ones
// they would say the same. Any thread; the views live as long as the body.
#pragma once

#include <string_view>
#include <vector>

#include "prompt/json_scan.h"
#include "prompt/known_texts.h"
#include "prompt/request.h"

namespace warmpath::prompt {

struct PlainBody {
  // Chat completions: what tokens may depend on, in order: texts of messages, and between them the
  // body's own bytes, put together to a JSON object without the members that tokens never depend
  // on. Completions: the prompt, one text.
  struct Part {
    RawText text;
    bool is_text = false;
  };

  RequestView view;
  std::vector<Part> parts;
  size_t texts = 0;                // how many of the parts
  bool add_special_tokens = true;  // completions
  ProvenBytes proven;              // what of the texts was recognised; Clear() lets go of it
};

// False: the body is not plain, or the API is none of chat completions and completions; `out` is
// unspecified then. The memory of `out` is used again. `known`: may be null; texts it recognises
// take less to read.
bool ReadPlainBody(Api api, std::string_view body, PlainBody& out,
                   const KnownTexts* known = nullptr);

}  // namespace warmpath::prompt
