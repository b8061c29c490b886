#include "kv/event_batch_reader.h"

#include <fmt/format.h>

#include <array>
#include <limits>

#include "codec/msgpack.h"

namespace warmpath::kv {

using codec::MsgpackReader;
using codec::MsgpackType;

enum class EventField : uint8_t {
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

namespace {

using Field = EventField;

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

// `wide` takes the digest's bytes, if it comes as such.
bool ReadHash(MsgpackReader& reader, EngineHash& hash, std::string_view& wide) {
  if (reader.Peek() == MsgpackType::kBinary) {
    std::string_view bytes;
    if (!reader.ReadBinary(bytes) || bytes.empty()) return false;
    wide = bytes;
    if (bytes.size() > 8) bytes.remove_prefix(bytes.size() - 8);
    hash = 0;
    for (const char c : bytes) hash = hash << 8 | static_cast<uint8_t>(c);
    return true;
  }
  bool negative = false;
  return reader.ReadInt(hash, negative);
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

bool ReadText(MsgpackReader& reader, std::optional<std::string_view>& out) {
  return reader.ReadString(out.emplace());
}

bool ReadSmall(MsgpackReader& reader, std::optional<uint32_t>& out) {
  uint64_t value = 0;
  if (!reader.ReadUint(value) || value > std::numeric_limits<uint32_t>::max()) return false;
  out = static_cast<uint32_t>(value);
  return true;
}

std::span<const Field> OrderOf(EventKind kind) {
  if (kind == EventKind::kStored) return kStoredOrder;
  if (kind == EventKind::kRemoved) return kRemovedOrder;
  return {};
}

bool HasField(EventKind kind, Field field) {
  switch (field) {
    case Field::kBlockHashes:
    case Field::kMedium:
    case Field::kGroupIdx:
    case Field::kLocality:
    case Field::kOwnership:
      return kind != EventKind::kCleared;
    default:
      return kind == EventKind::kStored;
  }
}

// Fewest fields without which an event of that kind means nothing.
size_t RequiredFields(EventKind kind) {
  if (kind == EventKind::kStored) return 4;
  return kind == EventKind::kRemoved ? 1 : 0;
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

}  // namespace

EventView ViewOf(const Event& event) {
  EventView view;
  if (const auto* stored = std::get_if<BlockStored>(&event)) {
    view.kind = EventKind::kStored;
    view.block_size = stored->block_size;
    view.hashes = stored->hashes;
    view.tokens = stored->tokens;
    view.parent = stored->parent;
    view.group_idx = stored->group_idx;
    view.sliding_window = stored->sliding_window;
    view.lora_id = stored->lora_id;
    view.medium = stored->medium;
    view.lora_name = stored->lora_name;
    view.spec_kind = stored->spec_kind;
    view.locality = stored->locality;
    view.ownership = stored->ownership;
    view.session_id = stored->session_id;
    view.cache_salt = stored->cache_salt;
    view.extra_keys = stored->extra_keys;
    view.wide_parent = stored->wide_parent;
  } else if (const auto* removed = std::get_if<BlockRemoved>(&event)) {
    view.kind = EventKind::kRemoved;
    view.hashes = removed->hashes;
    view.group_idx = removed->group_idx;
    view.medium = removed->medium;
    view.locality = removed->locality;
    view.ownership = removed->ownership;
  }
  return view;
}

template <typename T>
T* BatchArena<T>::Take(size_t count) {
  while (chunk_ < chunks_.size() && chunks_[chunk_].size - used_ < count) {
    ++chunk_;
    used_ = 0;
  }
  if (chunk_ == chunks_.size()) {
    const size_t size = std::max(count, kChunk);
    chunks_.push_back({std::make_unique_for_overwrite<T[]>(size), size});
  }
  T* values = chunks_[chunk_].values.get() + used_;
  used_ += count;
  return values;
}

template <typename T>
void BatchArena<T>::Clear() {
  size_t kept = 0;
  size_t chunks = 0;
  while (chunks < chunks_.size() && kept + chunks_[chunks].size <= kKept)
    kept += chunks_[chunks++].size;
  chunks_.resize(chunks);
  chunk_ = 0;
  used_ = 0;
}

bool EventBatchReader::ReadHashes(MsgpackReader& reader, EventView& event) {
  const size_t start = reader.position();
  uint32_t count = 0;
  if (!reader.ReadArray(count) || count > options_.max_blocks) return false;
  EngineHash* hashes = hashes_.Take(count);
  for (uint32_t i = 0; i < count;) {
    i += static_cast<uint32_t>(reader.ReadUint64Run(hashes + i, count - i));
    if (i == count) break;
    std::string_view wide;
    if (!ReadHash(reader, hashes[i], wide)) return false;
    ++i;
  }
  event.hashes = {hashes, count};
  event.raw_hashes = reader.Since(start);
  return true;
}

bool EventBatchReader::ReadTokens(MsgpackReader& reader, EventView& event) {
  uint32_t count = 0;
  if (!reader.ReadArray(count)) return false;
  TokenId* tokens = tokens_.Take(count);
  for (uint32_t i = 0; i < count;) {
    i += static_cast<uint32_t>(reader.ReadUint32Run(tokens + i, count - i));
    if (i == count) break;
    if (!ReadToken(reader, tokens[i])) return false;
    ++i;
  }
  event.tokens = {tokens, count};
  return true;
}

bool EventBatchReader::ReadField(MsgpackReader& reader, Field field, EventView& event,
                                 uint64_t& skipped) {
  if (!HasField(event.kind, field)) field = Field::kUnknown;
  if (field != Field::kUnknown && reader.Peek() == MsgpackType::kNil) {
    // The hash list and, but for connectors without tokens, the block size are required; nil
    // elsewhere means absent.
    return reader.ReadNil() && field != Field::kBlockHashes;
  }
  switch (field) {
    case Field::kBlockHashes:
      return ReadHashes(reader, event);
    case Field::kParent:
      return ReadHash(reader, event.parent.emplace(), event.wide_parent);
    case Field::kTokenIds:
      return ReadTokens(reader, event);
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
    case Field::kExtraKeys:
      return reader.Peek() == MsgpackType::kArray && reader.ReadRaw(event.extra_keys);
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

// The fields of an event whose tag is known. `reader` stands behind the tag (array) or behind the
// map's head.
bool EventBatchReader::ReadEvent(MsgpackReader& reader, EventKind kind, uint32_t count, bool map) {
  EventView& event = events_.emplace_back();
  event.kind = kind;
  uint64_t skipped = 0;
  bool has_hashes = false;
  const std::span<const Field> order = OrderOf(kind);
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
    } else if (i < order.size()) {
      field = order[i];
    }
    has_hashes |= field == Field::kBlockHashes;
    if (!ReadField(reader, field, event, skipped)) return false;
  }
  if (map ? RequiredFields(kind) > 0 && !has_hashes : count < RequiredFields(kind)) return false;
  batch_.skipped_fields += skipped;
  return true;
}

EventBatchReader::Outcome EventBatchReader::ReadOne(MsgpackReader& reader, bool nested) {
  if (reader.Peek() == MsgpackType::kBinary && !nested) {
    // The file-system connector packs each event by itself.
    std::string_view bytes;
    if (!reader.ReadBinary(bytes)) return Outcome::kBad;
    MsgpackReader inner(bytes);
    return ReadOne(inner, true);
  }
  uint32_t count = 0;
  std::string_view tag;
  const bool map = reader.Peek() == MsgpackType::kMap;
  if (map) {
    if (!reader.ReadMap(count)) return Outcome::kBad;
    tag = TypeOf(reader, count);
    batch_.format = batch_.format == EventFormat::kArray ? EventFormat::kMap : batch_.format;
  } else {
    if (!reader.ReadArray(count) || count == 0 || !reader.ReadString(tag)) return Outcome::kBad;
    --count;
  }
  EventKind kind;
  if (tag == "BlockStored") {
    kind = EventKind::kStored;
  } else if (tag == "BlockRemoved") {
    kind = EventKind::kRemoved;
  } else if (tag == "AllBlocksCleared") {
    kind = EventKind::kCleared;
  } else {
    return tag.empty() ? Outcome::kBad : Outcome::kUnknownTag;
  }
  const size_t events = events_.size();
  const auto hashes = hashes_.mark();
  const auto tokens = tokens_.mark();
  if (ReadEvent(reader, kind, count, map)) return Outcome::kRead;
  events_.resize(events);
  hashes_.ReturnTo(hashes);
  tokens_.ReturnTo(tokens);
  return Outcome::kBad;
}

bool EventBatchReader::ReadEvents(MsgpackReader& reader) {
  uint32_t count = 0;
  if (!reader.ReadArray(count)) return false;
  for (uint32_t i = 0; i < count; ++i) {
    const MsgpackReader start = reader;
    if (events_.size() >= options_.max_events) {
      ++batch_.bad_events;
      if (!reader.Skip()) return false;
      continue;
    }
    const Outcome outcome = ReadOne(reader, false);
    if (outcome == Outcome::kRead) continue;
    ++(outcome == Outcome::kBad ? batch_.bad_events : batch_.skipped_tags);
    reader = start;
    if (!reader.Skip()) return false;
  }
  return true;
}

bool EventBatchReader::ReadRank(MsgpackReader& reader) {
  if (reader.Peek() == MsgpackType::kNil) return reader.ReadNil();
  if (reader.Peek() == MsgpackType::kInt) return ReadSmall(reader, batch_.rank);
  ++batch_.skipped_fields;
  return reader.Skip();
}

bool EventBatchReader::ReadPublisher(MsgpackReader& reader) {
  if (reader.Peek() != MsgpackType::kBinary) {
    ++batch_.skipped_fields;
    return reader.Skip();
  }
  return reader.ReadBinary(batch_.publisher_id);
}

bool EventBatchReader::ReadArrayBatch(MsgpackReader& reader) {
  uint32_t count = 0;
  if (!reader.ReadArray(count) || count < 2) return false;
  batch_.format = EventFormat::kArray;
  if (!reader.ReadDouble(batch_.ts) || !ReadEvents(reader)) return false;
  if (count > 2 && !ReadRank(reader)) return false;
  if (count > 3 && !ReadPublisher(reader)) return false;
  for (uint32_t i = 4; i < count; ++i) {
    ++batch_.skipped_fields;
    if (!reader.Skip()) return false;
  }
  return true;
}

bool EventBatchReader::ReadMapBatch(MsgpackReader& reader) {
  uint32_t pairs = 0;
  bool has_events = false;
  if (!reader.ReadMap(pairs)) return false;
  batch_.format = EventFormat::kOuterMap;
  for (uint32_t i = 0; i < pairs; ++i) {
    std::string_view key;
    if (!reader.ReadString(key)) return false;
    if (key == "ts") {
      if (!reader.ReadDouble(batch_.ts)) return false;
    } else if (key == "events" && !has_events) {
      has_events = true;
      if (!ReadEvents(reader)) return false;
    } else if (key == "data_parallel_rank" || key == "attn_dp_rank") {
      if (!ReadRank(reader)) return false;
    } else if (key == "publisher_id") {
      if (!ReadPublisher(reader)) return false;
    } else {
      if (key != "type") ++batch_.skipped_fields;
      if (!reader.Skip()) return false;
    }
  }
  return has_events;
}

Result<EventBatchView> EventBatchReader::Read(std::string_view payload) {
  batch_ = {};
  if (events_.capacity() > kKeptEvents) std::vector<EventView>().swap(events_);
  events_.clear();
  hashes_.Clear();
  tokens_.Clear();
  MsgpackReader reader(payload);
  const bool map = reader.Peek() == MsgpackType::kMap;
  if (map ? !ReadMapBatch(reader) : !ReadArrayBatch(reader)) {
    return Fail(Code::kInvalidArgument, fmt::format("not an event batch: byte {} of {}",
                                                    reader.position(), payload.size()));
  }
  batch_.events = events_;
  return batch_;
}

}  // namespace warmpath::kv
