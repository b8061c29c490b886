#include "prompt/request.h"

#include <algorithm>
#include <utility>

#include "codec/json_reader.h"

namespace warmpath::prompt {
namespace {

using codec::JsonCursor;
using codec::JsonKind;

// The value as text, or "" when it is no string. A string with a lone surrogate also gives "": the
// engine judges it.
std::string Text(JsonCursor& value) {
  const auto kind = value.Kind();
  if (!kind || *kind != JsonKind::kString) return {};
  const auto text = value.String();
  return text ? std::string(*text) : std::string();
}

std::optional<uint64_t> Count(JsonCursor& value) {
  const auto number = value.Int();
  if (!number || *number < 0) return std::nullopt;
  return static_cast<uint64_t>(*number);
}

Status ReadStreamOptions(JsonCursor& value, bool& include_usage) {
  include_usage = false;
  const auto kind = value.Kind();
  if (!kind || *kind != JsonKind::kObject) return {};
  return value.ForEachField([&](std::string_view key, JsonCursor& member) -> Status {
    if (key == "include_usage") include_usage = member.Bool().value_or(false);
    return {};
  });
}

}  // namespace

Api ApiOfPath(std::string_view path) {
  path = path.substr(0, path.find('?'));
  static constexpr std::pair<std::string_view, Api> kPaths[] = {
      {"/v1/chat/completions", Api::kChatCompletions},
      {"/v1/completions", Api::kCompletions},
      {"/v1/responses", Api::kResponses},
      {"/v1/messages", Api::kMessages},
      {"/v1/embeddings", Api::kEmbeddings},
      {"/tokenize", Api::kTokenize},
      {"/detokenize", Api::kDetokenize},
  };
  for (const auto& [known, api] : kPaths) {
    if (path == known) return api;
  }
  return Api::kOther;
}

Result<RequestView> ReadRequest(Api api, std::string_view body) {
  RequestView view;
  view.api = api;
  std::optional<uint64_t> max_tokens;
  std::optional<uint64_t> max_completion_tokens;
  // The server has bounded the body already (--max-request-body), perhaps more generously.
  codec::JsonReadLimits limits;
  limits.max_bytes = std::max(limits.max_bytes, body.size());
  const auto status = codec::ReadJsonObject(
      body,
      [&](std::string_view key, JsonCursor& value) -> Status {
        if (key == "model") {
          view.model = Text(value);
        } else if (key == "stream") {
          view.stream = value.Bool().value_or(false);
        } else if (key == "stream_options") {
          return ReadStreamOptions(value, view.include_usage);
        } else if (key == "cache_salt") {
          view.cache_salt = Text(value);
        } else if (key == "max_tokens") {
          max_tokens = Count(value);
        } else if (key == "max_completion_tokens") {
          max_completion_tokens = Count(value);
        } else if (key == "n") {
          const auto count = Count(value);
          view.n = count && *count >= 1 && *count <= UINT32_MAX ? static_cast<uint32_t>(*count) : 1;
        }
        return {};
      },
      limits);
  if (!status) return Fail(Code::kInvalidArgument, status.error().message);
  view.max_tokens = max_completion_tokens ? max_completion_tokens : max_tokens;
  return view;
}

}  // namespace warmpath::prompt
