#include "prompt/encoder.h"

#include <fmt/core.h>

#include <optional>
#include <utility>

#include "codec/json_reader.h"
#include "prompt/piece_cache.h"

namespace warmpath::prompt {
namespace {

using codec::JsonCursor;
using codec::JsonKind;

// Pieces shorter than this cost more to look up than to tokenize.
constexpr size_t kMinPieceBytes = 256;
constexpr size_t kMaxPrompts = 4096;
constexpr size_t kMaxPromptIds = size_t{4} << 20;  // of one body, all prompts together

// A tokenizer's merges need up to 50 times the size of one word in memory, kept for the thread, and
// half a second per MiB of words it never met. Text beyond these is no text: routed by load.
constexpr size_t kMaxTextBytes = size_t{16} << 20;
constexpr size_t kMaxWordBytes = size_t{256} << 10;

enum class ByteKind : uint8_t { kLetter, kDigit, kSpace, kOther };

// Coarse on purpose: every script beyond ASCII counts as letters.
ByteKind KindOf(char c) {
  if (c >= '0' && c <= '9') return ByteKind::kDigit;
  if (c == ' ' || (c >= '\t' && c <= '\r')) return ByteKind::kSpace;
  const bool ascii_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return ascii_letter || static_cast<uint8_t>(c) >= 0x80 ? ByteKind::kLetter : ByteKind::kOther;
}

bool HasOverlongWord(std::string_view text) {
  if (text.size() <= kMaxWordBytes) return false;
  size_t start = 0;
  for (size_t i = 1; i < text.size(); ++i) {
    if (KindOf(text[i]) != KindOf(text[start])) start = i;
    if (i - start >= kMaxWordBytes) return true;
  }
  return false;
}

tl::unexpected<Error> TooLong() {
  return Fail(Code::kUnsupported, "a text or a word too long to tokenize");
}

// The fields of a completions body that make its tokens.
struct CompletionsBody {
  std::vector<std::string> texts;
  std::vector<std::vector<kv::TokenId>> ids;
  bool has_prompt = false;
  bool add_special_tokens = true;
  uint64_t truncate_to = 0;  // keep the last so many tokens; 0 keeps all
  std::optional<Error> refused;
};

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
Status ReadPrompt(JsonCursor& value, uint32_t id_limit, CompletionsBody& out) {
  out.texts.clear();
  out.ids.clear();
  out.refused.reset();
  out.has_prompt = true;
  WP_TRY(const JsonKind kind, value.Kind());
  Status status;
  if (kind == JsonKind::kString) {
    WP_TRY(const std::string_view text, value.String());
    out.texts.emplace_back(text);
  } else if (kind == JsonKind::kArray) {
    status = ReadPromptList(value, id_limit, out);
  } else {
    out.has_prompt = kind != JsonKind::kNull;
    if (out.has_prompt) status = Refused("prompt: a string or a list");
  }
  if (!status) out.refused = status.error();
  return {};
}

Result<CompletionsBody> ReadCompletions(std::string_view body, uint32_t id_limit) {
  CompletionsBody out;
  std::optional<Error> unsupported;
  const auto set = [](JsonCursor& value) {
    const auto kind = value.Kind();
    return kind && *kind != JsonKind::kNull;
  };
  const auto reject = [&](std::string_view key) {
    unsupported = Error{.code = Code::kUnsupported, .message = std::string(key)};
  };
  WP_RETURN_IF_ERROR(
      codec::ReadJsonObject(body, [&](std::string_view key, JsonCursor& value) -> Status {
        if (key == "prompt") return ReadPrompt(value, id_limit, out);
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
      }));
  if (out.refused) return tl::unexpected<Error>(*out.refused);
  if (unsupported) return tl::unexpected<Error>(*unsupported);
  if (!out.has_prompt) return Refused("prompt: missing");
  if (out.truncate_to > 0 && !out.ids.empty()) {
    return Fail(Code::kUnsupported, "truncate_prompt_tokens with token ids");
  }
  return out;
}

// The ids of a generate body.
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
  WP_RETURN_IF_ERROR(
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
      }));
  if (refused) return tl::unexpected<Error>(*refused);
  if (!has_ids || ids.empty()) return Refused("token_ids: missing or empty");
  // Their placeholders among the ids stand for pictures; the hashes are part of the engine's keys.
  if (has_features) return Fail(Code::kUnsupported, "features");
  return ids;
}

// A body over the reader's limits is one the engine cannot be asked to take either.
Error AsRefusal(Error error) {
  if (error.code == Code::kOutOfBounds) error.code = Code::kInvalidArgument;
  return error;
}

}  // namespace

struct Encoder::Impl {
  std::shared_ptr<const Tokenizer> tokenizer;
  EncoderOptions options;
  mutable PieceCache pieces;

  Impl(std::shared_ptr<const Tokenizer> t, EncoderOptions o)
      : tokenizer(std::move(t)), options(std::move(o)), pieces(options.cache_bytes) {}

  // Ids of `text` without added special tokens, taking known leading pieces from the cache. Exact:
  // CutPoints only cuts where the tokenizer itself never looks across, and a cached piece is
  // compared byte by byte. Cut points depend on the text before them alone, so the pieces of a
  // conversation stay the same when it grows.
  Result<std::vector<kv::TokenId>> EncodePieces(std::string_view text) const {
    std::vector<uint64_t> ends;
    if (options.cache_bytes > 0) {
      WP_TRY(ends, tokenizer->CutPoints(text, kMinPieceBytes));
    }
    if (ends.empty()) return tokenizer->Encode(text, false);
    std::vector<kv::TokenId> ids;
    ids.reserve(text.size() / 4);
    size_t start = 0;
    for (const uint64_t end : ends) {
      const std::string_view piece = text.substr(start, end - start);
      PieceCache::Ids known = pieces.Find(piece);
      if (known == nullptr) {
        WP_TRY(auto fresh, tokenizer->Encode(piece, false));
        known = std::make_shared<const std::vector<kv::TokenId>>(std::move(fresh));
        pieces.Put(piece, known);
      }
      ids.insert(ids.end(), known->begin(), known->end());
      start = end;
    }
    WP_TRY(const auto rest, tokenizer->Encode(text.substr(start), false));
    ids.insert(ids.end(), rest.begin(), rest.end());
    return ids;
  }

  // `truncate_to` keeps the last so many tokens; 0 keeps all.
  Result<EncodedPrompt> EncodeText(std::string text, bool add_special_tokens,
                                   uint64_t truncate_to) const {
    if (text.size() > kMaxTextBytes || HasOverlongWord(text)) {
      return TooLong();
    }
    WP_TRY(auto ids, add_special_tokens ? tokenizer->Encode(text, true) : EncodePieces(text));
    if (truncate_to > 0 && ids.size() > truncate_to) {
      if (add_special_tokens) {
        // The engine truncates before it adds; only where nothing is added is that the same.
        WP_TRY(const auto plain, tokenizer->Encode(text, false));
        if (plain != ids) {
          return Fail(Code::kUnsupported, "truncate_prompt_tokens with added special tokens");
        }
      }
      ids.erase(ids.begin(), ids.end() - static_cast<std::ptrdiff_t>(truncate_to));
    }
    return EncodedPrompt(std::move(ids), std::move(text));
  }

  Result<std::vector<EncodedPrompt>> EncodeChat(std::string_view body) const {
    WP_TRY(auto chat, tokenizer->RenderChatBody(body, options.now ? options.now() : -1));
    WP_TRY(auto prompt,
           EncodeText(std::move(chat.text), chat.add_special_tokens, chat.truncate_to));
    std::vector<EncodedPrompt> prompts;
    prompts.push_back(std::move(prompt));
    return prompts;
  }

  Result<std::vector<EncodedPrompt>> EncodeCompletions(std::string_view body) const {
    auto read = ReadCompletions(body, tokenizer->vocab_size());
    if (!read) return tl::unexpected<Error>(AsRefusal(read.error()));
    std::vector<EncodedPrompt> prompts;
    size_t bytes = 0;
    for (auto& text : read->texts) {
      bytes += text.size();
      if (bytes > kMaxTextBytes) return TooLong();
      WP_TRY(auto prompt, EncodeText(std::move(text), read->add_special_tokens, read->truncate_to));
      prompts.push_back(std::move(prompt));
    }
    for (auto& ids : read->ids) prompts.emplace_back(std::move(ids));
    return prompts;
  }

  Result<std::vector<EncodedPrompt>> EncodeGenerate(std::string_view body) const {
    auto ids = ReadGenerate(body, tokenizer->vocab_size());
    if (!ids) return tl::unexpected<Error>(AsRefusal(ids.error()));
    std::vector<EncodedPrompt> prompts;
    prompts.emplace_back(std::move(*ids));
    return prompts;
  }
};

Encoder::Encoder(std::shared_ptr<const Tokenizer> tokenizer, EncoderOptions options)
    : impl_(std::make_unique<Impl>(std::move(tokenizer), std::move(options))) {}
Encoder::~Encoder() = default;

Result<std::vector<EncodedPrompt>> Encoder::Encode(Api api, std::string_view body) const {
  switch (api) {
    case Api::kChatCompletions:
      return impl_->EncodeChat(body);
    case Api::kCompletions:
      return impl_->EncodeCompletions(body);
    case Api::kGenerate:
      return impl_->EncodeGenerate(body);
    default:
      return Fail(Code::kUnsupported, "no exact tokens for this API");
  }
}

const Tokenizer& Encoder::tokenizer() const {
  return *impl_->tokenizer;
}

}  // namespace warmpath::prompt
