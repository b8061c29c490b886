// Bodies with a text that is known: two bytes pick where what is kept of it is cut, a third where
// it is changed, the rest is its end and whatever follows. Read with the text known the body must
// say what it says without, also where what is kept could not stand inside a string at all.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "prompt/plain_body.h"

namespace warmpath::prompt {
namespace {

bool SameParts(const PlainBody& a, const PlainBody& b) {
  if (a.parts.size() != b.parts.size() || a.texts != b.texts) return false;
  for (size_t i = 0; i < a.parts.size(); ++i) {
    const RawText &x = a.parts[i].text, &y = b.parts[i].text;
    if (a.parts[i].is_text != b.parts[i].is_text || x.bytes.data() != y.bytes.data() ||
        x.bytes.size() != y.bytes.size() || x.escaped != y.escaped ||
        x.unicode_escaped != y.unicode_escaped) {
      return false;
    }
  }
  return a.view.model == b.view.model && a.view.n == b.view.n &&
         a.view.max_tokens == b.view.max_tokens;
}

void Check(const std::string& body, const KnownTexts& known) {
  PlainBody with, without;
  const bool read = ReadPlainBody(Api::kChatCompletions, body, with, &known);
  if (read != ReadPlainBody(Api::kChatCompletions, body, without)) std::abort();
  if (read && !SameParts(with, without)) std::abort();
}

}  // namespace
}  // namespace warmpath::prompt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace warmpath::prompt;
  if (size < 3) return 0;
  std::string text;
  while (text.size() < KnownTexts::kMinBytes) text += "some words ";
  text.append(reinterpret_cast<const char*>(data + 3), size - 3);
  const std::string_view kept(text);
  const size_t second = text.size() - data[0] % size;
  const size_t first = second - data[1];
  PrefixTrie trie(1 << 20);
  KnownTexts known;
  PrefixNodePtr node = PrefixTrie::MakeRoot({});
  const std::vector<std::vector<TextSpan>> chunks = {
      {{"a \"literal\"", false}, {kept.substr(0, first), true, true}},
      {{kept.substr(first, second - first), true}},
      {{kept.substr(second), true}, {"another", false}}};
  for (const auto& chunk : chunks) {
    node = trie.Add(node, chunk, {});
    known.Note(chunk, node);
  }
  const std::string head = R"({"model":"m","messages":[{"role":"user","content":")";
  const std::string tail = R"("},{"role":"user","content":"and \u00e9"}],"n":2})";
  std::string body = head + text + tail;
  Check(body, known);
  Check(head + text, known);
  body[head.size() + text.size() - data[2] % size] ^= 1 << data[2] % 8;
  Check(body, known);
  return 0;
}
