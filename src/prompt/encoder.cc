#include "prompt/encoder.h"

#include <algorithm>
#include <ctime>
#include <optional>
#include <utility>

#include "prompt/chunker.h"
#include "prompt/completions_body.h"
#include "prompt/open_text.h"
#include "prompt/prefix_trie.h"
#include "prompt/shape.h"
#include "prompt/words.h"

namespace warmpath::prompt {
namespace {

// A tokenizer spends half a second per MiB of words it never met. Text beyond this is no text:
// routed by load.
constexpr size_t kMaxTextBytes = size_t{16} << 20;
// Larger bodies around their texts are rendered as they are, and so are those of more texts.
constexpr size_t kMaxShapeKey = size_t{64} << 10;
constexpr size_t kMaxShapeTexts = 4096;
// What a template may print of the time is the same for as long (Tokenizer::ContentRules).
constexpr int64_t kShapeSeconds = 900;
constexpr size_t kAnyNew = static_cast<size_t>(-1);
// Less that two texts have in common is not worth a chunk.
constexpr size_t kMinFork = 512;

tl::unexpected<Error> TooLong() {
  return Fail(Code::kUnsupported, "a text or a word too long to tokenize");
}

// Token ids that the tokenizer sets around any text when it adds special tokens.
struct AddedTokens {
  std::vector<kv::TokenId> before;
  std::vector<kv::TokenId> after;
};

// Nullopt where that is not the same for all texts.
std::optional<AddedTokens> FindAddedTokens(const Tokenizer& tokenizer) {
  std::optional<AddedTokens> added;
  for (const std::string_view text :
       {"a", "", " ", "two words\n", "1,234.5", "\n\n \t", "\u65e5\u672c\u8a9e", "<s>x</s>"}) {
    const auto plain = tokenizer.Encode(text, false);
    const auto with = tokenizer.Encode(text, true);
    if (!plain || !with || with->size() < plain->size()) return std::nullopt;
    if (!added) {
      const auto at = std::search(with->begin(), with->end(), plain->begin(), plain->end());
      if (plain->empty() || at == with->end()) return std::nullopt;
      added.emplace();
      added->before.assign(with->begin(), at);
      added->after.assign(at + static_cast<std::ptrdiff_t>(plain->size()), with->end());
    }
    std::vector<kv::TokenId> expected = added->before;
    expected.insert(expected.end(), plain->begin(), plain->end());
    expected.insert(expected.end(), added->after.begin(), added->after.end());
    if (expected != *with) return std::nullopt;
  }
  return added;
}

// Memory of one request that the next one on the thread uses again.
struct Scratch {
  PlainBody body;
  std::string key;
  std::vector<RawText> open;  // the texts a shape has gaps for
  std::vector<Stretch> stretches;
  std::vector<TextSpan> chunk;
};

Scratch& ThreadScratch() {
  thread_local Scratch scratch;
  return scratch;
}

std::vector<EncodedPrompt> One(EncodedPrompt prompt) {
  std::vector<EncodedPrompt> prompts;
  prompts.push_back(std::move(prompt));
  return prompts;
}

}  // namespace

struct Encoder::Impl {
  std::shared_ptr<const Tokenizer> tokenizer;
  EncoderOptions options;
  const bool caches;
  const bool between_words;
  const OpenText open_text;
  const std::optional<AddedTokens> added;
  mutable ShapeCache shapes;
  mutable PrefixTrie trie;
  mutable KnownTexts known_texts;
  const PrefixNodePtr plain_root;    // of texts as they are
  const PrefixNodePtr special_root;  // of texts that special tokens are added to

  Impl(std::shared_ptr<const Tokenizer> t, EncoderOptions o)
      : tokenizer(std::move(t)),
        options(std::move(o)),
        caches(options.cache_bytes > 0),
        between_words(tokenizer->cuts_between_words()),
        open_text(tokenizer->content_rules()),
        added(FindAddedTokens(*tokenizer)),
        shapes(options.cache_bytes / 16),
        trie(options.cache_bytes - options.cache_bytes / 16),
        plain_root(PrefixTrie::MakeRoot({})),
        special_root(PrefixTrie::MakeRoot(added ? added->before : std::vector<kv::TokenId>{})) {}

  // Ids of one chunk's text behind `last_word`.
  Result<EncodedChunk> EncodeChunk(std::string_view text, WordRun last_word) const {
    EncodedChunk chunk{.ids = {}, .text_bytes = text.size(), .last_word = last_word};
    if (!ContinueWords(text, chunk.last_word)) return TooLong();
    WP_TRY(chunk.ids, tokenizer->Encode(text, false));
    return chunk;
  }

  // The deepest known node that the chunks ahead lead to; goes on behind it.
  PrefixNodePtr FindKnown(PrefixNodePtr node, Chunker& chunker, const ProvenBytes& proven) const {
    std::vector<TextSpan>& chunk = ThreadScratch().chunk;
    for (;;) {
      Chunker ahead = chunker;
      PrefixNodePtr next = ahead.Next(chunk) ? trie.Find(node, chunk, proven) : nullptr;
      if (next == nullptr && node->fork() > 0) {
        ahead = chunker;
        if (ahead.NextWithin(node->fork(), chunk)) next = trie.Find(node, chunk, proven);
      }
      if (next == nullptr) return node;
      known_texts.Note(chunk, next);
      node = std::move(next);
      chunker = ahead;
    }
  }

  // Whether the chunk ahead of `node` parts from a known one only after much: then `chunk` becomes
  // what they have in common, as a chunk that more texts may share.
  static bool Fork(const PrefixNode& node, Chunker& chunker, std::vector<TextSpan>& chunk) {
    Chunker ahead = chunker;
    if (!ahead.Next(chunk)) return false;
    const size_t common = node.CommonBytes(chunk);
    if (common < kMinFork) return false;
    ahead = chunker;
    if (!ahead.NextWithin(common, chunk)) return false;
    chunker = ahead;
    node.SetFork(common);
    return true;
  }

  Result<PrefixNodePtr> AddChunk(const PrefixNodePtr& node, std::span<const TextSpan> chunk,
                                 std::string& text) const {
    WP_RETURN_IF_ERROR(Unescape(chunk, text));
    WP_TRY(auto encoded, EncodeChunk(text, node->last_word()));
    PrefixNodePtr next = trie.Add(node, chunk, std::move(encoded));
    known_texts.Note(chunk, next);
    return next;
  }

  // What the chunks of a text came to.
  struct Walked {
    PrefixNodePtr node;  // of the last one
    size_t known_tokens = 0;
    size_t new_bytes = 0;
  };

  // Up to the last chunk, whatever is left then. Exact: cuts are only made where the tokenizer
  // itself never looks across, and a known chunk is compared byte by byte. kOutOfBounds: more than
  // `max_new_bytes` of the text are not known.
  Result<Walked> WalkChunks(Chunker& chunker, bool add_special_tokens, const ProvenBytes& proven,
                            size_t max_new_bytes, std::vector<TextSpan>& chunk,
                            std::string& text) const {
    PrefixNodePtr node = FindKnown(add_special_tokens ? special_root : plain_root, chunker, proven);
    const size_t known_tokens = node->parent() == nullptr ? 0 : node->tokens();
    if (chunker.bytes_left() > max_new_bytes) return Fail(Code::kOutOfBounds, "much text is new");
    size_t new_bytes = 0;
    for (bool more = Fork(*node, chunker, chunk) || chunker.Next(chunk); more;
         more = chunker.Next(chunk)) {
      WP_TRY(node, AddChunk(node, chunk, text));
      for (const TextSpan& span : chunk) new_bytes += span.bytes.size();
    }
    return Walked{std::move(node), known_tokens, new_bytes};
  }

  // The ids of the text that `stretches` make up; kOutOfBounds as above.
  Result<EncodedPrompt> EncodeStretches(std::span<const Stretch> stretches, bool add_special_tokens,
                                        const ProvenBytes& proven, size_t max_new_bytes) const {
    Chunker chunker(stretches, between_words);
    std::vector<TextSpan>& chunk = ThreadScratch().chunk;
    std::string text;
    WP_TRY(auto walked,
           WalkChunks(chunker, add_special_tokens, proven, max_new_bytes, chunk, text));
    WP_RETURN_IF_ERROR(Unescape(chunk, text));
    WP_TRY(auto rest, EncodeChunk(text, walked.node->last_word()));
    if (add_special_tokens && !added->after.empty())
      rest.ids.insert(rest.ids.end(), added->after.begin(), added->after.end());
    return EncodedPrompt(std::move(walked.node), walked.known_tokens, std::move(rest.ids),
                         std::move(text));
  }

  // Makes the chunks of a text that goes on known: those that end in it whatever comes. How many
  // bytes were not before.
  size_t LearnStretches(std::span<const Stretch> stretches, bool add_special_tokens,
                        const ProvenBytes& proven) const {
    Chunker chunker(stretches, between_words);
    std::string text;
    const auto walked =
        WalkChunks(chunker, add_special_tokens, proven, kAnyNew, ThreadScratch().chunk, text);
    return walked ? walked->new_bytes : 0;
  }

  static Status Unescape(std::span<const TextSpan> chunk, std::string& text) {
    text.clear();
    for (const TextSpan& span : chunk) {
      if (!span.raw) {
        text += span.bytes;
      } else if (!AppendUnescaped(span.bytes, text)) {
        return Fail(Code::kInvalidArgument, "a lone surrogate");
      }
    }
    return {};
  }

  Result<EncodedPrompt> EncodeWhole(std::string text, bool add_special_tokens) const {
    if (WordRun run; !ContinueWords(text, run)) return TooLong();
    WP_TRY(auto ids, tokenizer->Encode(text, add_special_tokens));
    return EncodedPrompt(std::move(ids), std::move(text));
  }

  // `truncate_to` keeps the last so many tokens; 0 keeps all.
  Result<EncodedPrompt> EncodeText(std::string text, bool add_special_tokens,
                                   uint64_t truncate_to) const {
    if (text.size() > kMaxTextBytes) return TooLong();
    if (!caches || truncate_to > 0 || (add_special_tokens && !added)) {
      WP_TRY(auto prompt, EncodeWhole(std::move(text), add_special_tokens));
      if (truncate_to == 0 || prompt.token_count() <= truncate_to) return prompt;
      if (add_special_tokens) {
        // The engine truncates before it adds; only where nothing is added is that the same.
        WP_TRY(const auto plain, tokenizer->Encode(prompt.text(), false));
        if (plain != prompt.ids())
          return Fail(Code::kUnsupported, "truncate_prompt_tokens with added special tokens");
      }
      const auto& ids = prompt.ids();
      return EncodedPrompt(
          std::vector(ids.end() - static_cast<std::ptrdiff_t>(truncate_to), ids.end()),
          prompt.text());
    }
    WP_TRY(const auto ends, tokenizer->CutPoints(text, 1));
    const Stretch whole{{text, false}, ends};
    return EncodeStretches(std::span(&whole, 1), add_special_tokens, {}, kAnyNew);
  }

  // The shape of a plain chat body, from the cache or, if it is no larger than `max_new_bytes`,
  // made now, and in `scratch` the texts for its gaps; null when the body has to be rendered as it
  // is. `keep`: others will have it too.
  ShapePtr ShapeOf(const PlainBody& body, size_t max_new_bytes, bool keep, Scratch& scratch) const {
    const int64_t now = options.now ? options.now() : static_cast<int64_t>(std::time(nullptr));
    if (now < 0) return nullptr;
    std::string& key = scratch.key;
    key.clear();
    scratch.open.clear();
    for (const PlainBody::Part& part : body.parts) {
      const std::string_view raw = part.text.bytes;
      const auto open = part.is_text ? open_text.OpenPart(part.text) : std::nullopt;
      if (key.size() + raw.size() - (open ? open->bytes.size() : 0) > kMaxShapeKey) return nullptr;
      if (open) {
        const auto before = static_cast<size_t>(open->bytes.begin() - raw.begin());
        key += raw.substr(0, before);
        key += '\x01';  // which JSON never holds
        key += raw.substr(before + open->bytes.size());
        scratch.open.push_back(*open);
      } else {
        key += raw;
      }
    }
    if (scratch.open.empty() || scratch.open.size() > kMaxShapeTexts) return nullptr;
    const int64_t window = now / kShapeSeconds;
    const size_t skeleton_size = key.size();
    key.append(reinterpret_cast<const char*>(&window), sizeof window);
    if (const auto known = shapes.Find(key)) return *known;
    if (key.size() > max_new_bytes) return nullptr;
    std::string stand_in;
    size_t texts = 0;
    for (size_t i = 0; i < skeleton_size; ++i) {
      if (key[i] == '\x01') {
        AppendStandIn(texts++, stand_in);
      } else {
        stand_in += key[i];
      }
    }
    ShapePtr shape = MakeShape(*tokenizer, stand_in, texts, now);
    if (keep) shapes.Put(key, shape);
    return shape;
  }

  // Nullopt: the body has to go the full way, or more than `max_new_bytes` of it are new.
  std::optional<EncodedPrompt> EncodePlain(Api api, const PlainBody& body,
                                           size_t max_new_bytes) const {
    if (api == Api::kChatCompletions) return EncodePlainChat(body, max_new_bytes);
    if (api == Api::kCompletions) return EncodePlainText(body, max_new_bytes);
    return std::nullopt;
  }

  // The shape of a plain chat body as ShapeOf gives it, and in `scratch` the stretches of its text;
  // null also where it cannot be put together from them.
  ShapePtr StretchesOf(const PlainBody& body, size_t max_new_bytes, bool keep,
                       Scratch& scratch) const {
    if (!caches || body.texts == 0) return nullptr;
    ShapePtr shape = ShapeOf(body, max_new_bytes, keep, scratch);
    if (shape == nullptr || shape->truncate_to > 0) return nullptr;
    if (shape->add_special_tokens && !added) return nullptr;
    auto& stretches = scratch.stretches;
    stretches.clear();
    size_t bytes = 0;
    for (size_t i = 0; i < shape->literals.size(); ++i) {
      const Shape::Literal& literal = shape->literals[i];
      stretches.push_back({{literal.text, false}, literal.ends});
      bytes += literal.text.size();
      if (i == shape->gaps.size()) break;
      const RawText& text = scratch.open[shape->gaps[i]];
      stretches.push_back(StretchOf(text));
      bytes += text.bytes.size();
      if (bytes > kMaxTextBytes) return nullptr;
    }
    return shape;
  }

  std::optional<EncodedPrompt> EncodePlainChat(const PlainBody& body, size_t max_new_bytes) const {
    Scratch& scratch = ThreadScratch();
    const ShapePtr shape = StretchesOf(body, max_new_bytes, /*keep=*/true, scratch);
    if (shape == nullptr) return std::nullopt;
    auto prompt =
        EncodeStretches(scratch.stretches, shape->add_special_tokens, body.proven, max_new_bytes);
    if (!prompt) return std::nullopt;
    return std::move(*prompt);
  }

  // The last text may go on, and whatever a template sets behind it is not known yet.
  size_t LearnChat(const PlainBody& begun) const {
    Scratch& scratch = ThreadScratch();
    const ShapePtr shape = StretchesOf(begun, kAnyNew, /*keep=*/false, scratch);
    if (shape == nullptr) return 0;
    const auto last = std::find(shape->gaps.begin(), shape->gaps.end(), scratch.open.size() - 1);
    if (last == shape->gaps.end()) return 0;
    const auto stretches = static_cast<size_t>(last - shape->gaps.begin()) * 2 + 2;
    return LearnStretches(std::span(scratch.stretches).first(stretches), shape->add_special_tokens,
                          begun.proven);
  }

  bool CutsPlainText(const PlainBody& body) const {
    return caches && between_words && (!body.add_special_tokens || added) &&
           body.parts.front().text.bytes.size() <= kMaxTextBytes;
  }

  static Stretch StretchOf(const RawText& text) {
    return {{text.bytes, text.escaped, text.bytes.size() >= KnownTexts::kMinBytes}, {}};
  }

  std::optional<EncodedPrompt> EncodePlainText(const PlainBody& body, size_t max_new_bytes) const {
    if (!CutsPlainText(body)) return std::nullopt;
    const Stretch whole = StretchOf(body.parts.front().text);
    auto prompt =
        EncodeStretches(std::span(&whole, 1), body.add_special_tokens, body.proven, max_new_bytes);
    if (!prompt) return std::nullopt;
    return std::move(*prompt);
  }

  size_t LearnText(const PlainBody& begun) const {
    if (!CutsPlainText(begun)) return 0;
    const Stretch whole = StretchOf(begun.parts.front().text);
    return LearnStretches(std::span(&whole, 1), begun.add_special_tokens, begun.proven);
  }

  Result<std::vector<EncodedPrompt>> EncodeChat(std::string_view body) const {
    WP_TRY(auto chat, tokenizer->RenderChatBody(body, options.now ? options.now() : -1));
    WP_TRY(auto prompt,
           EncodeText(std::move(chat.text), chat.add_special_tokens, chat.truncate_to));
    return One(std::move(prompt));
  }

  Result<std::vector<EncodedPrompt>> EncodeCompletions(std::string_view body) const {
    WP_TRY(auto read, ReadCompletions(body, tokenizer->vocab_size()));
    std::vector<EncodedPrompt> prompts;
    size_t bytes = 0;
    for (auto& text : read.texts) {
      bytes += text.size();
      if (bytes > kMaxTextBytes) return TooLong();
      WP_TRY(auto prompt, EncodeText(std::move(text), read.add_special_tokens, read.truncate_to));
      prompts.push_back(std::move(prompt));
    }
    for (auto& ids : read.ids) prompts.emplace_back(std::move(ids));
    return prompts;
  }
};

Encoder::Encoder(std::shared_ptr<const Tokenizer> tokenizer, EncoderOptions options)
    : impl_(std::make_unique<Impl>(std::move(tokenizer), std::move(options))) {}
Encoder::~Encoder() = default;

Result<std::vector<EncodedPrompt>> Encoder::Encode(Api api, std::string_view body) const {
  PlainBody& plain = ThreadScratch().body;
  auto prompts = Encode(api, body, Read(api, body, plain) ? &plain : nullptr);
  plain.proven.Clear();
  return prompts;
}

bool Encoder::Read(Api api, std::string_view body, PlainBody& out) const {
  return ReadPlainBody(api, body, out, &impl_->known_texts);
}

Result<std::vector<EncodedPrompt>> Encoder::Encode(Api api, std::string_view body,
                                                   const PlainBody* plain) const {
  if (plain != nullptr) {
    if (auto prompt = impl_->EncodePlain(api, *plain, kAnyNew)) return One(std::move(*prompt));
  }
  switch (api) {
    case Api::kChatCompletions:
      return impl_->EncodeChat(body);
    case Api::kCompletions:
      return impl_->EncodeCompletions(body);
    case Api::kGenerate: {
      WP_TRY(auto ids, ReadGenerate(body, impl_->tokenizer->vocab_size()));
      return One(EncodedPrompt(std::move(ids)));
    }
    default:
      return Fail(Code::kUnsupported, "no exact tokens for this API");
  }
}

std::optional<std::vector<EncodedPrompt>> Encoder::EncodeKnown(Api api, const PlainBody& plain,
                                                               size_t max_new_bytes) const {
  auto prompt = impl_->EncodePlain(api, plain, max_new_bytes);
  if (!prompt) return std::nullopt;
  return One(std::move(*prompt));
}

size_t Encoder::Learn(Api api, const PlainBody& begun) const {
  if (api == Api::kChatCompletions) return impl_->LearnChat(begun);
  return api == Api::kCompletions ? impl_->LearnText(begun) : 0;
}

const Tokenizer& Encoder::tokenizer() const {
  return *impl_->tokenizer;
}

}  // namespace warmpath::prompt
