// What routing needs to know of a client's request body, read in one pass and without changing it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kv/types.h"

namespace warmpath::prompt {

enum class Api {
  kChatCompletions,
  kCompletions,
  kResponses,   // routed by load for now
  kMessages,    // routed by load for now
  kEmbeddings,  // routed by load for now
  kTokenize,
  kDetokenize,
  kGenerate,  // vLLM's /inference/v1/generate: token ids in the body
  kConversations,
  kImages,
  kOther,
};

// By path alone: "/v1/chat/completions" -> kChatCompletions. Exact paths, a query is ignored.
Api ApiOfPath(std::string_view path);

// By the longest known end of the path, whole segments, whatever stands before it:
// "/proxy/v1/chat/completions/render?x=1" -> kChatCompletions, "/v1/messages/count_tokens" ->
// kMessages.
Api ApiOfPathSuffix(std::string_view path);

struct RequestView {
  Api api = Api::kOther;
  std::string model;  // "" when absent or null: the engine's default model
  // Where the model's value (with its quotes) stands in the body, for splicing; empty when absent.
  size_t model_offset = 0;
  size_t model_length = 0;
  bool stream = false;
  bool include_usage = false;  // stream_options.include_usage
  std::string cache_salt;      // "" when absent
  // max_completion_tokens, else max_tokens; responses: max_output_tokens; generate: that of
  // sampling_params.
  std::optional<uint64_t> max_tokens;
  uint32_t n = 1;
  bool has_required = false;  // the field the API cannot do without is there (CheckRequired)
};

// `body` must be a JSON object; duplicate keys: the last wins; depth at most 64 and bounded count
// of values, else kInvalidArgument. Wrong types of the fields above are left for the engine to
// refuse (the field keeps its default).
Result<RequestView> ReadRequest(Api api, std::string_view body);

// kInvalidArgument with llm-d's text where the field that carries the prompt is absent, null or an
// empty list: "invalid completions request: must have prompt field". APIs without such a text pass.
Status CheckRequired(const RequestView& view);
// The same of a body not read yet; ReadRequest's error where it is no JSON object.
Status CheckRequired(Api api, std::string_view body);

// `body` with the value of "model" replaced by `model` (UTF-8), every other byte kept. `view` is of
// this body, which ReadRequest took. A body without "model" gets it as its first member. When the
// key is given twice, the last one is replaced (it is the one that counts).
std::string ReplaceModel(std::string_view body, const RequestView& view, std::string_view model);

}  // namespace warmpath::prompt
