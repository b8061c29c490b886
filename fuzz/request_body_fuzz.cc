// Request bodies: the first byte picks the API, the rest is read as routing reads it and encoded
// with a tiny tokenizer. With and without the piece cache the ids must be the same.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "prompt/encoder.h"
#include "prompt/request.h"
#include "prompt/tiny_tokenizer.h"

namespace warmpath::prompt {
namespace {

std::shared_ptr<const Tokenizer> LoadTiny() {
  const auto dir =
      std::filesystem::temp_directory_path() / fmt::format("warmpath-fuzz-{}", getpid());
  WriteTinyTokenizer(dir);
  auto tokenizer = Tokenizer::Load(dir.string());
  std::filesystem::remove_all(dir);
  if (!tokenizer) std::abort();
  return *tokenizer;
}

}  // namespace
}  // namespace warmpath::prompt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace warmpath::prompt;
  static const auto tokenizer = LoadTiny();
  static const Encoder cached(tokenizer,
                              {.cache_bytes = 1 << 20, .now = [] { return int64_t{0}; }});
  static const Encoder plain(tokenizer, {.cache_bytes = 0, .now = [] { return int64_t{0}; }});
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data + 1), size - 1);
  const Api api = data[0] == 'c' ? Api::kCompletions : Api::kChatCompletions;
  const auto view = ReadRequest(api, body);
  const auto with = cached.Encode(api, body);
  const auto without = plain.Encode(api, body);
  if (with.has_value() != without.has_value()) std::abort();
  // Chat bodies are parsed whole; a completions body may be broken inside a field nobody reads.
  if (with && !view && api == Api::kChatCompletions) std::abort();
  if (!with) return 0;
  for (size_t i = 0; i < with->size(); ++i) {
    if (with->at(i).ids != without->at(i).ids) std::abort();
  }
  return 0;
}
