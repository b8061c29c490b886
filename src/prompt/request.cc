#include "prompt/request.h"

#include <algorithm>
#include <string>
#include <utility>

#include "codec/json.h"
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

// Fills in the model and where it stands.
Status ReadModel(JsonCursor& value, std::string_view body, RequestView& view) {
  view.model.clear();
  WP_TRY(const JsonKind kind, value.Kind());
  // The text of a string is only looked at, so it can be read after.
  WP_TRY(const std::string_view raw, value.Raw());
  view.model_offset = static_cast<size_t>(raw.data() - body.data());
  view.model_length = raw.size();
  if (kind == JsonKind::kString) view.model = Text(value);
  return {};
}

Status ReadSamplingParameters(JsonCursor& value, std::optional<uint64_t>& max_tokens) {
  max_tokens.reset();
  const auto kind = value.Kind();
  if (!kind || *kind != JsonKind::kObject) return {};
  return value.ForEachField([&](std::string_view key, JsonCursor& member) -> Status {
    if (key == "max_tokens") max_tokens = Count(member);
    return {};
  });
}

bool IsSpace(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// Of a JSON list's text.
bool IsEmptyList(std::string_view raw) {
  size_t i = 1;
  while (i < raw.size() && IsSpace(raw[i])) ++i;
  return i < raw.size() && raw[i] == ']';
}

// The field a request of this API cannot do without, and how its lack is reported.
struct RequiredField {
  Api api;
  std::string_view key;
  bool must_be_list;
  const char* message;
};
constexpr RequiredField kRequired[] = {
    {Api::kChatCompletions, "messages", true,
     "invalid chat completions request: must have valid messages field"},
    {Api::kCompletions, "prompt", false, "invalid completions request: must have prompt field"},
    {Api::kEmbeddings, "input", false, "invalid embeddings request: must have input field"},
    {Api::kResponses, "input", false, "invalid responses request: must have input field"},
    {Api::kConversations, "items", true, "invalid conversations request: must have items field"},
    {Api::kImages, "prompt", false, "invalid images generations request: must have prompt field"},
};

const RequiredField* RequiredOf(Api api) {
  for (const RequiredField& field : kRequired) {
    if (field.api == api) return &field;
  }
  return nullptr;
}

// null and an empty list count as absent.
bool IsGiven(JsonCursor& value, bool must_be_list) {
  const auto kind = value.Kind();
  if (!kind) return false;
  if (*kind != JsonKind::kArray) return !must_be_list && *kind != JsonKind::kNull;
  const auto raw = value.Raw();
  return raw && !IsEmptyList(*raw);
}

}  // namespace

Api ApiOfPathSuffix(std::string_view path) {
  path = path.substr(0, path.find_first_of("?#"));
  // Longer ones before those they end in.
  static constexpr std::pair<std::string_view, Api> kSuffixes[] = {
      {"chat/completions/render", Api::kChatCompletions},
      {"chat/completions", Api::kChatCompletions},
      {"completions/render", Api::kCompletions},
      {"completions", Api::kCompletions},
      {"embeddings", Api::kEmbeddings},
      {"responses", Api::kResponses},
      {"conversations", Api::kConversations},
      {"images/generations", Api::kImages},
      {"messages/count_tokens", Api::kMessages},
      {"messages", Api::kMessages},
      {"inference/v1/generate", Api::kGenerate},
      {"tokenize", Api::kTokenize},
      {"detokenize", Api::kDetokenize},
  };
  for (const auto& [suffix, api] : kSuffixes) {
    if (!path.ends_with(suffix)) continue;
    const size_t before = path.size() - suffix.size();
    if (before == 0 || path[before - 1] == '/') return api;
  }
  return Api::kOther;
}

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
  std::optional<uint64_t> max_output_tokens;
  std::optional<uint64_t> sampling_max_tokens;
  const RequiredField* required = RequiredOf(api);
  view.has_required = required == nullptr;
  // The server has bounded the body already (--max-request-body), perhaps more generously.
  codec::JsonReadLimits limits;
  limits.max_bytes = std::max(limits.max_bytes, body.size());
  const auto status = codec::ReadJsonObject(
      body,
      [&](std::string_view key, JsonCursor& value) -> Status {
        if (required != nullptr && key == required->key) {
          view.has_required = IsGiven(value, required->must_be_list);
        } else if (key == "model") {
          return ReadModel(value, body, view);
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
        } else if (key == "max_output_tokens") {
          max_output_tokens = Count(value);
        } else if (key == "sampling_params" && api == Api::kGenerate) {
          return ReadSamplingParameters(value, sampling_max_tokens);
        } else if (key == "n") {
          const auto count = Count(value);
          view.n = count && *count >= 1 && *count <= UINT32_MAX ? static_cast<uint32_t>(*count) : 1;
        }
        return {};
      },
      limits);
  if (!status) return Fail(Code::kInvalidArgument, status.error().message);
  if (api == Api::kResponses) {
    view.max_tokens = max_output_tokens;
  } else if (api == Api::kGenerate) {
    view.max_tokens = sampling_max_tokens;
  } else {
    view.max_tokens = max_completion_tokens ? max_completion_tokens : max_tokens;
  }
  return view;
}

Status CheckRequired(const RequestView& view) {
  if (view.has_required) return {};
  const RequiredField* required = RequiredOf(view.api);
  if (required == nullptr) return {};
  return Fail(Code::kInvalidArgument, required->message);
}

Status CheckRequired(Api api, std::string_view body) {
  WP_TRY(const RequestView view, ReadRequest(api, body));
  return CheckRequired(view);
}

std::string ReplaceModel(std::string_view body, const RequestView& view, std::string_view model) {
  const std::string value = codec::DumpJson(codec::Json(model));
  std::string out;
  out.reserve(body.size() + value.size() + 10);
  if (view.model_length > 0) {
    out.append(body.substr(0, view.model_offset));
    out.append(value);
    out.append(body.substr(view.model_offset + view.model_length));
    return out;
  }
  // Only white space stands before the object's brace.
  const size_t first = std::min(body.size(), body.find('{') + 1);
  size_t next = first;
  while (next < body.size() && IsSpace(body[next])) ++next;
  const bool is_empty = next < body.size() && body[next] == '}';
  out.append(body.substr(0, first));
  out.append(R"("model":)").append(value);
  if (!is_empty) out.push_back(',');
  out.append(body.substr(first));
  return out;
}

}  // namespace warmpath::prompt
