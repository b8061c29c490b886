// Request bodies: the first byte picks the API, the rest is read as routing reads it and encoded
// with a tiny tokenizer. Read in place it must say what the other reader says; with and without
// memory of earlier bodies the ids and keys must be the same; a new model changes its own bytes
// only; estimates are the same every time and bounded by the body. The body serves as a path too.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "codec/json.h"
#include "prompt/encoder.h"
#include "prompt/estimate.h"
#include "prompt/plain_body.h"
#include "prompt/request.h"
#include "prompt/tiny_tokenizer.h"

namespace warmpath::prompt {
namespace {

void CheckReplaceModel(Api api, std::string_view body, const RequestView& view) {
  constexpr std::string_view kModel = "n\"w \\ m\x01";
  const std::string out = ReplaceModel(body, view, kModel);
  const auto again = ReadRequest(api, out);
  if (!again || again->model != kModel) std::abort();
  const std::string_view kept = view.model_length > 0 ? body.substr(0, view.model_offset)
                                                      : body.substr(0, body.find('{') + 1);
  const std::string_view rest = body.substr(kept.size() + view.model_length);
  if (!out.starts_with(kept) || !out.ends_with(rest)) std::abort();
  // Whoever reads all of it agrees, key for key.
  const auto old_tree = warmpath::codec::ParseJson(body);
  if (!old_tree) return;
  const auto new_tree = warmpath::codec::ParseJson(out);
  if (!new_tree) std::abort();
  auto expected = old_tree->get_object();
  expected["model"] = kModel;
  if (expected != new_tree->get_object()) std::abort();
}

void CheckPlain(Api api, std::string_view body, const Result<RequestView>& expected) {
  PlainBody plain;
  if (!ReadPlainBody(api, body, plain)) return;
  const RequestView& view = plain.view;
  if (!expected || view.api != expected->api || view.model != expected->model ||
      view.model_offset != expected->model_offset || view.model_length != expected->model_length ||
      view.stream != expected->stream || view.include_usage != expected->include_usage ||
      view.cache_salt != expected->cache_salt || view.max_tokens != expected->max_tokens ||
      view.n != expected->n || view.has_required != expected->has_required) {
    std::abort();
  }
}

void CheckEstimate(std::string_view body) {
  constexpr size_t kMediaTokens = 1 << 20;
  for (const Api api : {Api::kChatCompletions, Api::kCompletions, Api::kResponses, Api::kMessages,
                        Api::kConversations, Api::kGenerate}) {
    const auto prompts = EstimateTokens(api, body);
    if (!prompts) continue;
    size_t tokens = 0;
    for (const auto& ids : *prompts) tokens += ids.size();
    if (tokens > body.size() + kMediaTokens) std::abort();
    if (body.size() < 4096 && *prompts != EstimateTokens(api, body).value()) std::abort();
  }
}

void CheckPath(std::string_view path) {
  const Api exact = ApiOfPath(path);
  if (exact != Api::kOther && ApiOfPathSuffix(path) != exact) std::abort();
  // What stands before does not matter.
  if (ApiOfPathSuffix(path) != Api::kOther &&
      ApiOfPathSuffix("/x/" + std::string(path)) == Api::kOther) {
    std::abort();
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
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data + 1), size - 1);
  const Api api = data[0] == 'c'   ? Api::kCompletions
                  : data[0] == 'g' ? Api::kGenerate
                                   : Api::kChatCompletions;
  CheckPath(body);
  CheckEstimate(body);
  const auto view = ReadRequest(api, body);
  if (view) CheckReplaceModel(api, body, *view);
  CheckPlain(api, body, view);
  const auto with = cached.Encode(api, body);
  const auto without = plain.Encode(api, body);
  if (with.has_value() != without.has_value()) std::abort();
  if (!with && with.error().message != without.error().message) std::abort();
  // Chat bodies are parsed whole; a completions body may be broken inside a field nobody reads.
  if (with && !view && api == Api::kChatCompletions) std::abort();
  if (!with) return 0;
  for (size_t i = 0; i < with->size(); ++i) {
    if (with->at(i).ids() != without->at(i).ids()) std::abort();
    if (with->at(i).Keys(1, 16) != without->at(i).Keys(1, 16)) std::abort();
    if (with->at(i).text() != without->at(i).text()) std::abort();
  }
  return 0;
}
