// Bodies cut short: the first two bytes pick where, the third the API, the rest is the body. Of a
// plain body every beginning must be read as plain, with texts that begin the body's own; of any
// other nothing may break. What was learned of beginnings changes no token.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "prompt/begun_body.h"
#include "prompt/encoder.h"
#include "prompt/tiny_tokenizer.h"

namespace warmpath::prompt {
namespace {

std::vector<std::string_view> TextsOf(const PlainBody& body) {
  std::vector<std::string_view> texts;
  for (const PlainBody::Part& part : body.parts) {
    if (part.is_text) texts.push_back(part.text.bytes);
  }
  return texts;
}

void CheckTexts(const PlainBody& whole, const PlainBody& begun) {
  const auto texts = TextsOf(whole), read = TextsOf(begun);
  if (read.size() > texts.size()) std::abort();
  for (size_t i = 0; i < read.size(); ++i) {
    const bool last = i + 1 == read.size();
    if (last ? !texts[i].starts_with(read[i]) : texts[i] != read[i]) std::abort();
    std::string text;
    // The whole one may hold half a surrogate pair.
    if (!AppendUnescaped(read[i], text) && AppendUnescaped(texts[i], text)) std::abort();
  }
}

}  // namespace
}  // namespace warmpath::prompt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace warmpath::prompt;
  static const auto tokenizer = LoadTinyTokenizer();
  static const Encoder cached(tokenizer,
                              {.cache_bytes = 1 << 20, .now = [] { return int64_t{0}; }});
  static const Encoder plain(tokenizer, {.cache_bytes = 0, .now = [] { return int64_t{0}; }});
  if (size < 3) return 0;
  const size_t place = data[0] * size_t{256} + data[1];
  const Api api = data[2] == 'c' ? Api::kCompletions : Api::kChatCompletions;
  const std::string_view body(reinterpret_cast<const char*>(data + 3), size - 3);
  PlainBody whole, begun;
  const bool is_plain = ReadPlainBody(api, body, whole);
  // There, and in steps from there on.
  for (size_t cut = place % (body.size() + 1), step = 1; cut <= body.size(); cut += step, ++step) {
    const std::string completed = CompleteBody(api, body.substr(0, cut));
    if (completed.empty()) continue;
    if (ReadPlainBody(api, completed, begun)) {
      if (is_plain) CheckTexts(whole, begun);
      if (cached.Learn(api, begun) > 2 * completed.size()) std::abort();
    } else if (is_plain) {
      std::abort();
    }
  }
  const auto with = cached.Encode(api, body);
  const auto without = plain.Encode(api, body);
  if (with.has_value() != without.has_value()) std::abort();
  if (!with) return 0;
  for (size_t i = 0; i < with->size(); ++i) {
    if (with->at(i).ids() != without->at(i).ids()) std::abort();
    if (with->at(i).Keys(1, 16) != without->at(i).Keys(1, 16)) std::abort();
  }
  return 0;
}
