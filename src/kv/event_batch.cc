#include "kv/event_batch.h"

#include <fmt/format.h>

#include <limits>

#include "codec/msgpack.h"
#include "kv/event_batch_reader.h"

namespace warmpath::kv {

using codec::MsgpackReader;
using codec::MsgpackType;

namespace {

std::optional<std::string> Copy(const std::optional<std::string_view>& text) {
  return text ? std::optional<std::string>(*text) : std::nullopt;
}

bool ReadSmall(MsgpackReader& reader, std::optional<uint32_t>& out) {
  uint64_t value = 0;
  if (!reader.ReadUint(value) || value > std::numeric_limits<uint32_t>::max()) return false;
  out = static_cast<uint32_t>(value);
  return true;
}

// The digests of a hash list already read; false when only some hashes are digests.
bool CopyWide(const EventView& event, std::vector<std::string>& wide) {
  MsgpackReader reader(event.raw_hashes);
  uint32_t count = 0;
  reader.ReadArray(count);
  for (uint32_t i = 0; i < count; ++i) {
    std::string_view bytes;
    if (reader.Peek() != MsgpackType::kBinary) {
      reader.Skip();
    } else if (reader.ReadBinary(bytes)) {
      wide.emplace_back(bytes);
    }
  }
  return wide.empty() || wide.size() == event.hashes.size();
}

BlockStored CopyStored(const EventView& event) {
  BlockStored out;
  out.hashes.assign(event.hashes.begin(), event.hashes.end());
  out.parent = event.parent;
  out.tokens.assign(event.tokens.begin(), event.tokens.end());
  out.block_size = event.block_size;
  out.lora_id = event.lora_id;
  out.medium = Copy(event.medium);
  out.lora_name = Copy(event.lora_name);
  out.extra_keys = event.extra_keys;
  out.group_idx = event.group_idx;
  out.spec_kind = Copy(event.spec_kind);
  out.sliding_window = event.sliding_window;
  out.locality = Copy(event.locality);
  out.ownership = Copy(event.ownership);
  out.session_id = Copy(event.session_id);
  out.cache_salt = Copy(event.cache_salt);
  return out;
}

BlockRemoved CopyRemoved(const EventView& event) {
  BlockRemoved out;
  out.hashes.assign(event.hashes.begin(), event.hashes.end());
  out.medium = Copy(event.medium);
  out.group_idx = event.group_idx;
  out.locality = Copy(event.locality);
  out.ownership = Copy(event.ownership);
  return out;
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
  EventBatchReader reader(options);
  WP_TRY(const EventBatchView view, reader.Read(payload));
  EventBatch batch;
  batch.ts = view.ts;
  batch.rank = view.rank;
  batch.publisher_id = view.publisher_id;
  batch.format = view.format;
  batch.skipped_fields = view.skipped_fields;
  batch.skipped_tags = view.skipped_tags;
  batch.bad_events = view.bad_events;
  batch.events.reserve(view.events.size());
  for (const EventView& event : view.events) {
    std::vector<std::string> wide;
    if (options.keep_wide && !CopyWide(event, wide)) {
      ++batch.bad_events;
      continue;
    }
    if (event.kind == EventKind::kStored) {
      BlockStored stored = CopyStored(event);
      stored.wide = std::move(wide);
      if (options.keep_wide) stored.wide_parent = event.wide_parent;
      batch.events.emplace_back(std::move(stored));
    } else if (event.kind == EventKind::kRemoved) {
      BlockRemoved removed = CopyRemoved(event);
      removed.wide = std::move(wide);
      batch.events.emplace_back(std::move(removed));
    } else {
      batch.events.emplace_back(AllBlocksCleared{});
    }
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
