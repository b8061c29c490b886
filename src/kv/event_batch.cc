#include "kv/event_batch.h"

#include <fmt/format.h>

#include <array>
#include <limits>

#include "codec/msgpack.h"

namespace warmpath::kv {

using codec::MsgpackReader;
using codec::MsgpackType;

namespace {

enum class Field {
  kBlockHashes,
  kParent,
  kTokenIds,
  kBlockSize,
  kLoraId,
  kMedium,
  kLoraName,
  kExtraKeys,
  kGroupIdx,
  kSpecKind,
  kSlidingWindow,
  kLocality,
  kOwnership,
  kSessionId,
  kCacheSalt,
  kUnknown,
};

// Positional order after the tag.
constexpr std::array kStoredOrder = {Field::kBlockHashes, Field::kParent,       Field::kTokenIds,
                                     Field::kBlockSize,   Field::kLoraId,       Field::kMedium,
                                     Field::kLoraName,    Field::kExtraKeys,    Field::kGroupIdx,
                                     Field::kSpecKind,    Field::kSlidingWindow};
constexpr std::array kRemovedOrder = {Field::kBlockHashes, Field::kMedium, Field::kGroupIdx};

Field FieldOf(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, Field>, 15> kNames = {{
      {"block_hashes", Field::kBlockHashes},
      {"parent_block_hash", Field::kParent},
      {"token_ids", Field::kTokenIds},
      {"block_size", Field::kBlockSize},
      {"lora_id", Field::kLoraId},
      {"medium", Field::kMedium},
      {"lora_name", Field::kLoraName},
      {"extra_keys", Field::kExtraKeys},
      {"group_idx", Field::kGroupIdx},
      {"kv_cache_spec_kind", Field::kSpecKind},
      {"kv_cache_spec_sliding_window", Field::kSlidingWindow},
      {"locality", Field::kLocality},
      {"ownership", Field::kOwnership},
      {"session_id", Field::kSessionId},
      {"cache_salt", Field::kCacheSalt},
  }};
  for (const auto& [text, field] : kNames) {
    if (text == name) return field;
  }
  return Field::kUnknown;
}

bool ReadHash(MsgpackReader& reader, EngineHash& hash, std::string* wide) {
  if (reader.Peek() == MsgpackType::kBinary) {
    std::string_view bytes;
    if (!reader.ReadBinary(bytes) || bytes.empty()) return false;
    if (wide != nullptr) *wide = bytes;
    if (bytes.size() > 8) bytes.remove_prefix(bytes.size() - 8);
    hash = 0;
    for (const char c : bytes) hash = hash << 8 | static_cast<uint8_t>(c);
    return true;
  }
  bool negative = false;
  return reader.ReadInt(hash, negative);
}

bool ReadHashes(MsgpackReader& reader, std::vector<EngineHash>& hashes,
                std::vector<std::string>& wide, const DecodeOptions& options) {
  uint32_t count = 0;
  if (!reader.ReadArray(count) || count > options.max_blocks) return false;
  hashes.clear();
  hashes.reserve(count);
  wide.clear();
  for (uint32_t i = 0; i < count; ++i) {
    EngineHash hash = 0;
    std::string bytes;
    if (!ReadHash(reader, hash, options.keep_wide ? &bytes : nullptr)) return false;
    hashes.push_back(hash);
    if (!bytes.empty()) wide.push_back(std::move(bytes));
  }
  return wide.empty() || wide.size() == hashes.size();
}

bool ReadToken(MsgpackReader& reader, TokenId& token) {
  uint64_t value = 0;
  if (reader.Peek() == MsgpackType::kArray) {
    // Bigram keys of speculative decoding (SGLang): the first of the pair is the token at this
    // place.
    uint32_t count = 0;
    if (!reader.ReadArray(count) || count == 0 || !reader.ReadUint(value)) return false;
    for (uint32_t i = 1; i < count; ++i) {
      if (!reader.Skip()) return false;
    }
  } else if (!reader.ReadUint(value)) {
    return false;
  }
  token = static_cast<TokenId>(value);
  return value <= std::numeric_limits<TokenId>::max();
}

bool ReadTokens(MsgpackReader& reader, std::vector<TokenId>& tokens) {
  uint32_t count = 0;
  if (!reader.ReadArray(count)) return false;
  tokens.clear();
  tokens.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    TokenId token = 0;
    if (!ReadToken(reader, token)) return false;
    tokens.push_back(token);
  }
  return true;
}

bool ReadText(MsgpackReader& reader, std::optional<std::string>& out) {
  std::string_view text;
  if (!reader.ReadString(text)) return false;
  out = std::string(text);
  return true;
}

bool ReadSmall(MsgpackReader& reader, std::optional<uint32_t>& out) {
  uint64_t value = 0;
  if (!reader.ReadUint(value) || value > std::numeric_limits<uint32_t>::max()) return false;
  out = static_cast<uint32_t>(value);
  return true;
}

bool ReadField(MsgpackReader& reader, Field field, BlockStored& event, const DecodeOptions& options,
               uint64_t& skipped) {
  if (field != Field::kUnknown && reader.Peek() == MsgpackType::kNil) {
    // The hash list and, but for connectors without tokens, the block size are required; nil
    // elsewhere means absent.
    return reader.ReadNil() && field != Field::kBlockHashes;
  }
  switch (field) {
    case Field::kBlockHashes:
      return ReadHashes(reader, event.hashes, event.wide, options);
    case Field::kParent: {
      EngineHash parent = 0;
      if (!ReadHash(reader, parent, options.keep_wide ? &event.wide_parent : nullptr)) return false;
      event.parent = parent;
      return true;
    }
    case Field::kTokenIds:
      return ReadTokens(reader, event.tokens);
    case Field::kBlockSize: {
      std::optional<uint32_t> size;
      if (!ReadSmall(reader, size)) return false;
      event.block_size = *size;
      return true;
    }
    case Field::kLoraId: {
      uint64_t bits = 0;
      bool negative = false;
      if (!reader.ReadInt(bits, negative)) return false;
      event.lora_id = static_cast<int64_t>(bits);
      return true;
    }
    case Field::kMedium:
      return ReadText(reader, event.medium);
    case Field::kLoraName:
      return ReadText(reader, event.lora_name);
    case Field::kExtraKeys: {
      std::string_view raw;
      if (reader.Peek() != MsgpackType::kArray || !reader.ReadRaw(raw)) return false;
      event.extra_keys = raw;
      return true;
    }
    case Field::kGroupIdx:
      return ReadSmall(reader, event.group_idx);
    case Field::kSpecKind:
      return ReadText(reader, event.spec_kind);
    case Field::kSlidingWindow:
      return ReadSmall(reader, event.sliding_window);
    case Field::kLocality:
      return ReadText(reader, event.locality);
    case Field::kOwnership:
      return ReadText(reader, event.ownership);
    case Field::kSessionId:
      return ReadText(reader, event.session_id);
    case Field::kCacheSalt:
      return ReadText(reader, event.cache_salt);
    case Field::kUnknown:
      break;
  }
  ++skipped;
  return reader.Skip();
}

bool ReadField(MsgpackReader& reader, Field field, BlockRemoved& event,
               const DecodeOptions& options, uint64_t& skipped) {
  switch (field) {
    case Field::kBlockHashes:
      return ReadHashes(reader, event.hashes, event.wide, options);
    case Field::kMedium:
    case Field::kGroupIdx:
    case Field::kLocality:
    case Field::kOwnership:
      break;
    default:
      ++skipped;
      return reader.Skip();
  }
  if (reader.Peek() == MsgpackType::kNil) return reader.ReadNil();
  switch (field) {
    case Field::kMedium:
      return ReadText(reader, event.medium);
    case Field::kGroupIdx:
      return ReadSmall(reader, event.group_idx);
    case Field::kLocality:
      return ReadText(reader, event.locality);
    default:
      return ReadText(reader, event.ownership);
  }
}

bool ReadField(MsgpackReader& reader, Field, AllBlocksCleared&, const DecodeOptions&,
               uint64_t& skipped) {
  ++skipped;
  return reader.Skip();
}

template <typename E>
constexpr std::span<const Field> OrderOf() {
  if constexpr (std::is_same_v<E, BlockStored>) return kStoredOrder;
  if constexpr (std::is_same_v<E, BlockRemoved>) return kRemovedOrder;
  return {};
}

// Fewest fields without which an event of that kind means nothing.
template <typename E>
constexpr size_t RequiredFields() {
  if constexpr (std::is_same_v<E, BlockStored>) return 4;
  if constexpr (std::is_same_v<E, BlockRemoved>) return 1;
  return 0;
}

// The fields of an event whose tag is known. `reader` stands behind the tag (array) or behind the
// map's head.
template <typename E>
bool ReadEvent(MsgpackReader& reader, uint32_t count, bool map, EventBatch& batch,
               const DecodeOptions& options) {
  E event;
  uint64_t skipped = 0;
  bool has_hashes = false;
  for (uint32_t i = 0; i < count; ++i) {
    Field field = Field::kUnknown;
    if (map) {
      std::string_view key;
      if (reader.Peek() != MsgpackType::kString) {
        ++skipped;
        if (!reader.Skip() || !reader.Skip()) return false;
        continue;
      }
      if (!reader.ReadString(key)) return false;
      if (key == "type") {
        if (!reader.Skip()) return false;
        continue;
      }
      field = FieldOf(key);
    } else if (const auto order = OrderOf<E>(); i < order.size()) {
      field = order[i];
    }
    has_hashes |= field == Field::kBlockHashes;
    if (!ReadField(reader, field, event, options, skipped)) return false;
  }
  if (map ? RequiredFields<E>() > 0 && !has_hashes : count < RequiredFields<E>()) return false;
  batch.skipped_fields += skipped;
  batch.events.push_back(std::move(event));
  return true;
}

// Value of key "type" of the map whose `pairs` follow; `reader` is a copy.
std::string_view TypeOf(MsgpackReader reader, uint32_t pairs) {
  for (uint32_t i = 0; i < pairs; ++i) {
    std::string_view key;
    if (reader.Peek() == MsgpackType::kString ? !reader.ReadString(key) : !reader.Skip()) return {};
    if (key == "type") {
      std::string_view tag;
      return reader.ReadString(tag) ? tag : std::string_view();
    }
    if (!reader.Skip()) return {};
  }
  return {};
}

enum class Outcome { kRead, kUnknownTag, kBad };

Outcome ReadOne(MsgpackReader& reader, EventBatch& batch, const DecodeOptions& options,
                bool nested = false) {
  if (reader.Peek() == MsgpackType::kBinary && !nested) {
    // The file-system connector packs each event by itself.
    std::string_view bytes;
    if (!reader.ReadBinary(bytes)) return Outcome::kBad;
    MsgpackReader inner(bytes);
    return ReadOne(inner, batch, options, true);
  }
  uint32_t count = 0;
  std::string_view tag;
  const bool map = reader.Peek() == MsgpackType::kMap;
  if (map) {
    if (!reader.ReadMap(count)) return Outcome::kBad;
    tag = TypeOf(reader, count);
    batch.format = batch.format == EventFormat::kArray ? EventFormat::kMap : batch.format;
  } else {
    if (!reader.ReadArray(count) || count == 0 || !reader.ReadString(tag)) return Outcome::kBad;
    --count;
  }
  bool ok = false;
  if (tag == "BlockStored") {
    ok = ReadEvent<BlockStored>(reader, count, map, batch, options);
  } else if (tag == "BlockRemoved") {
    ok = ReadEvent<BlockRemoved>(reader, count, map, batch, options);
  } else if (tag == "AllBlocksCleared") {
    ok = ReadEvent<AllBlocksCleared>(reader, count, map, batch, options);
  } else {
    return tag.empty() ? Outcome::kBad : Outcome::kUnknownTag;
  }
  return ok ? Outcome::kRead : Outcome::kBad;
}

bool ReadEvents(MsgpackReader& reader, EventBatch& batch, const DecodeOptions& options) {
  uint32_t count = 0;
  if (!reader.ReadArray(count)) return false;
  for (uint32_t i = 0; i < count; ++i) {
    MsgpackReader start = reader;
    if (batch.events.size() >= options.max_events) {
      ++batch.bad_events;
      if (!reader.Skip()) return false;
      continue;
    }
    const Outcome outcome = ReadOne(reader, batch, options);
    if (outcome == Outcome::kRead) continue;
    ++(outcome == Outcome::kBad ? batch.bad_events : batch.skipped_tags);
    reader = start;
    if (!reader.Skip()) return false;
  }
  return true;
}

bool ReadRank(MsgpackReader& reader, EventBatch& batch) {
  if (reader.Peek() == MsgpackType::kNil) return reader.ReadNil();
  if (reader.Peek() == MsgpackType::kInt) return ReadSmall(reader, batch.rank);
  ++batch.skipped_fields;
  return reader.Skip();
}

bool ReadPublisher(MsgpackReader& reader, EventBatch& batch) {
  if (reader.Peek() != MsgpackType::kBinary) {
    ++batch.skipped_fields;
    return reader.Skip();
  }
  std::string_view id;
  if (!reader.ReadBinary(id)) return false;
  batch.publisher_id = id;
  return true;
}

bool ReadArrayBatch(MsgpackReader& reader, EventBatch& batch, const DecodeOptions& options) {
  uint32_t count = 0;
  if (!reader.ReadArray(count) || count < 2) return false;
  batch.format = EventFormat::kArray;
  if (!reader.ReadDouble(batch.ts) || !ReadEvents(reader, batch, options)) return false;
  if (count > 2 && !ReadRank(reader, batch)) return false;
  if (count > 3 && !ReadPublisher(reader, batch)) return false;
  for (uint32_t i = 4; i < count; ++i) {
    ++batch.skipped_fields;
    if (!reader.Skip()) return false;
  }
  return true;
}

bool ReadMapBatch(MsgpackReader& reader, EventBatch& batch, const DecodeOptions& options) {
  uint32_t pairs = 0;
  bool has_events = false;
  if (!reader.ReadMap(pairs)) return false;
  batch.format = EventFormat::kOuterMap;
  for (uint32_t i = 0; i < pairs; ++i) {
    std::string_view key;
    if (!reader.ReadString(key)) return false;
    if (key == "ts") {
      if (!reader.ReadDouble(batch.ts)) return false;
    } else if (key == "events" && !has_events) {
      has_events = true;
      if (!ReadEvents(reader, batch, options)) return false;
    } else if (key == "data_parallel_rank" || key == "attn_dp_rank") {
      if (!ReadRank(reader, batch)) return false;
    } else if (key == "publisher_id") {
      if (!ReadPublisher(reader, batch)) return false;
    } else {
      if (key != "type") ++batch.skipped_fields;
      if (!reader.Skip()) return false;
    }
  }
  return has_events;
}

}  // namespace

std::string_view EventFormatName(EventFormat format) {
  switch (format) {
    case EventFormat::kArray:
      return "array";
    case EventFormat::kMap:
      return "map";
    case EventFormat::kOuterMap:
      return "outer-map";
  }
  return "";
}

Result<EventFormat> ParseEventFormat(std::string_view name) {
  for (const EventFormat format :
       {EventFormat::kArray, EventFormat::kMap, EventFormat::kOuterMap}) {
    if (name == EventFormatName(format)) return format;
  }
  return Fail(Code::kInvalidArgument,
              fmt::format("event format \"{}\" is not one of array, map, outer-map", name));
}

Result<EventBatch> DecodeBatch(std::string_view payload, const DecodeOptions& options) {
  EventBatch batch;
  MsgpackReader reader(payload);
  const bool map = reader.Peek() == MsgpackType::kMap;
  if (map ? !ReadMapBatch(reader, batch, options) : !ReadArrayBatch(reader, batch, options)) {
    return Fail(Code::kInvalidArgument, fmt::format("not an event batch: byte {} of {}",
                                                    reader.position(), payload.size()));
  }
  return batch;
}

std::optional<uint32_t> BatchRank(std::string_view payload) {
  MsgpackReader reader(payload);
  std::optional<uint32_t> rank;
  uint32_t count = 0;
  if (reader.Peek() == MsgpackType::kArray) {
    if (!reader.ReadArray(count) || count < 3 || !reader.Skip() || !reader.Skip())
      return std::nullopt;
    return reader.Peek() == MsgpackType::kInt && ReadSmall(reader, rank) ? rank : std::nullopt;
  }
  if (!reader.ReadMap(count)) return std::nullopt;
  for (uint32_t i = 0; i < count; ++i) {
    std::string_view key;
    if (!reader.ReadString(key)) return std::nullopt;
    if (key == "data_parallel_rank" && reader.Peek() == MsgpackType::kInt) {
      return ReadSmall(reader, rank) ? rank : std::nullopt;
    }
    if (!reader.Skip()) return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace warmpath::kv
