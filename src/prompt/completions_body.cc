#include "prompt/completions_body.h"

#include <fmt/core.h>

#include <optional>
#include <utility>

#include "codec/json_reader.h"

namespace warmpath::prompt {
namespace {

using codec::JsonCursor;
using codec::JsonKind;

constexpr size_t kMaxPrompts = 4096;
constexpr size_t kMaxPromptIds = size_t{4} << 20;  // of one body, all prompts together

struct Reading {
  CompletionsBody body;
  bool has_prompt = false;
  std::optional<Error> refused;
};

// A body over the reader's limits is one the engine cannot be asked to take either.
Error AsRefusal(Error error) {
  if (error.code == Code::kOutOfBounds) error.code = Code::kInvalidArgument;
  return error;
}

tl::unexpected<Error> Refused(std::string message) {
  return Fail(Code::kInvalidArgument, std::move(message));
}

Status ReadId(JsonCursor& value, uint32_t limit, std::vector<kv::TokenId>& ids) {
  const auto id = value.Int();
  if (!id || *id < 0) return Refused("prompt: token ids are whole numbers from 0");
  if (*id >= limit) return Refused(fmt::format("prompt: token id {} is out of vocabulary", *id));
  ids.push_back(static_cast<kv::TokenId>(*id));
  return {};
}

Status ReadPromptList(JsonCursor& list, uint32_t id_limit, CompletionsBody& out) {
  std::optional<JsonKind> first;
  size_t count = 0;
  std::vector<kv::TokenId> flat;
  WP_RETURN_IF_ERROR(list.ForEachElement([&](size_t, JsonCursor& element) -> Status {
    WP_TRY(const JsonKind kind, element.Kind());
    if (!first) first = kind;
    if (kind != *first)
      return Refused("prompt: a list holds strings, ids or lists of ids, not a mix");
    switch (kind) {
      case JsonKind::kString: {
        if (out.texts.size() >= kMaxPrompts) return Fail(Code::kUnsupported, "too many prompts");
        WP_TRY(const std::string_view text, element.String());
        out.texts.emplace_back(text);
        return {};
      }
      case JsonKind::kNumber:
        if (++count > kMaxPromptIds) return Fail(Code::kUnsupported, "too many token ids");
        return ReadId(element, id_limit, flat);
      case JsonKind::kArray: {
        if (out.ids.size() >= kMaxPrompts) return Fail(Code::kUnsupported, "too many prompts");
        auto& ids = out.ids.emplace_back();
        WP_RETURN_IF_ERROR(element.ForEachElement([&](size_t, JsonCursor& id) -> Status {
          if (++count > kMaxPromptIds) return Fail(Code::kUnsupported, "too many token ids");
          return ReadId(id, id_limit, ids);
        }));
        if (ids.empty()) return Refused("prompt: empty");
        return {};
      }
      default:
        return Refused("prompt: a list holds strings, ids or lists of ids");
    }
  }));
  if (!first) return Refused("prompt: empty");
  if (*first == JsonKind::kNumber) out.ids.push_back(std::move(flat));
  return {};
}

// Fills the prompt of `out`; what the engine would refuse is kept in `out.refused`, because a later
// key of the same name wins.
Status ReadPrompt(JsonCursor& value, uint32_t id_limit, Reading& out) {
  out.body.texts.clear();
  out.body.ids.clear();
  out.refused.reset();
  out.has_prompt = true;
  WP_TRY(const JsonKind kind, value.Kind());
  Status status;
  if (kind == JsonKind::kString) {
    WP_TRY(const std::string_view text, value.String());
    out.body.texts.emplace_back(text);
  } else if (kind == JsonKind::kArray) {
    status = ReadPromptList(value, id_limit, out.body);
  } else {
    out.has_prompt = kind != JsonKind::kNull;
    if (out.has_prompt) status = Refused("prompt: a string or a list");
  }
  if (!status) out.refused = status.error();
  return {};
}

}  // namespace

Result<CompletionsBody> ReadCompletions(std::string_view body, uint32_t id_limit) {
  Reading reading;
  CompletionsBody& out = reading.body;
  std::optional<Error> unsupported;
  const auto set = [](JsonCursor& value) {
    const auto kind = value.Kind();
    return kind && *kind != JsonKind::kNull;
  };
  const auto reject = [&](std::string_view key) {
    unsupported = Error{.code = Code::kUnsupported, .message = std::string(key)};
  };
  const Status read =
      codec::ReadJsonObject(body, [&](std::string_view key, JsonCursor& value) -> Status {
        if (key == "prompt") return ReadPrompt(value, id_limit, reading);
        if (key == "add_special_tokens") {
          const auto flag = value.Bool();
          if (!flag) return Refused("add_special_tokens must be a boolean");
          out.add_special_tokens = *flag;
        } else if (key == "truncate_prompt_tokens" && set(value)) {
          const auto count = value.Int();
          out.truncate_to = count && *count > 0 ? static_cast<uint64_t>(*count) : 0;
          // -1 means the engine's context length, which is not known here.
          if (out.truncate_to == 0) reject(key);
        } else if ((key == "truncation_side" || key == "prompt_embeds" || key == "suffix") &&
                   set(value)) {
          reject(key);
        }
        return {};
      });
  if (!read) return tl::unexpected<Error>(AsRefusal(read.error()));
  if (reading.refused) return tl::unexpected<Error>(AsRefusal(*reading.refused));
  if (unsupported) return tl::unexpected<Error>(*unsupported);
  if (!reading.has_prompt) return Refused("prompt: missing");
  if (out.truncate_to > 0 && !out.ids.empty()) {
    return Fail(Code::kUnsupported, "truncate_prompt_tokens with token ids");
  }
  return std::move(out);
}

Result<std::vector<kv::TokenId>> ReadGenerate(std::string_view body, uint32_t id_limit) {
  std::vector<kv::TokenId> ids;
  bool has_ids = false, has_features = false;
  std::optional<Error> refused;
  const auto read_ids = [&](JsonCursor& value) -> Status {
    WP_TRY(const JsonKind kind, value.Kind());
    if (kind != JsonKind::kArray) return Refused("token_ids: a list");
    return value.ForEachElement([&](size_t index, JsonCursor& id) -> Status {
      if (index >= kMaxPromptIds) return Fail(Code::kUnsupported, "too many token ids");
      return ReadId(id, id_limit, ids);
    });
  };
  const Status read =
      codec::ReadJsonObject(body, [&](std::string_view key, JsonCursor& value) -> Status {
        if (key == "token_ids") {
          // What a later key of the same name replaces is not refused.
          ids.clear();
          refused.reset();
          has_ids = true;
          if (const Status status = read_ids(value); !status) refused = status.error();
        } else if (key == "features") {
          WP_TRY(const JsonKind kind, value.Kind());
          has_features = kind != JsonKind::kNull;
        }
        return {};
      });
  if (!read) return tl::unexpected<Error>(AsRefusal(read.error()));
  if (refused) return tl::unexpected<Error>(AsRefusal(*refused));
  if (!has_ids || ids.empty()) return Refused("token_ids: missing or empty");
  // Their placeholders among the ids stand for pictures; the hashes are part of the engine's keys.
  if (has_features) return Fail(Code::kUnsupported, "features");
  return ids;
}

}  // namespace warmpath::prompt
