// KV-event batches as engines publish them: decoding of every release's form, and encoding for the
// simulator.
//
// Decoding is bounded and tolerant: unknown tags and fields are skipped and counted, and a bad
// event costs itself only. What cannot be walked at all is an error of the whole batch. Pure
// functions, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "kv/types.h"

namespace warmpath::kv {

enum class EventFormat {
  kArray,     // batch and events positional (up to vLLM 0.23)
  kMap,       // batch positional, events as maps tagged by "type" (0.24 and newer)
  kOuterMap,  // the batch is a map too
};
std::string_view EventFormatName(EventFormat format);  // "array", "map", "outer-map"
Result<EventFormat> ParseEventFormat(std::string_view name);

// Hash lists hold the integer that names a block (types.h). `wide` holds the digests themselves
// where they are known: decoding fills it on request when the wire has bytes; encoding writes bytes
// when it is filled (then same length as `hashes`).
struct BlockStored {
  std::vector<EngineHash> hashes;
  std::vector<std::string> wide;
  std::optional<EngineHash> parent;  // absent: the run starts a chain
  std::string wide_parent;
  std::vector<TokenId> tokens;
  uint32_t block_size = 0;
  std::optional<int64_t> lora_id;
  std::optional<std::string> medium;
  std::optional<std::string> lora_name;
  std::string
      extra_keys;  // msgpack of the list (one entry per hash); "" = nil or absent. See extra_keys.h
  std::optional<uint32_t> group_idx;
  std::optional<std::string> spec_kind;
  std::optional<uint32_t> sliding_window;
  std::optional<std::string> locality;
  std::optional<std::string> ownership;
  std::optional<std::string> session_id;
  std::optional<std::string> cache_salt;  // SGLang's own field
};

struct BlockRemoved {
  std::vector<EngineHash> hashes;
  std::vector<std::string> wide;
  std::optional<std::string> medium;
  std::optional<uint32_t> group_idx;
  std::optional<std::string> locality;
  std::optional<std::string> ownership;
};

struct AllBlocksCleared {};

using Event = std::variant<BlockStored, BlockRemoved, AllBlocksCleared>;

struct EventBatch {
  double ts = 0;  // seconds since the epoch, by the engine's clock
  std::vector<Event> events;
  std::optional<uint32_t> rank;
  std::string publisher_id;                // fourth element, where an engine sends one
  EventFormat format = EventFormat::kMap;  // as decoded
  // What was passed over while decoding.
  uint64_t skipped_fields = 0;
  uint64_t skipped_tags = 0;  // events of unknown kind
  uint64_t bad_events = 0;    // events of a known kind that do not read as such
};

struct DecodeOptions {
  bool keep_wide = false;  // fill `wide` and `wide_parent`
  size_t max_events = 100'000;
  size_t max_blocks = 1'000'000;  // hashes in one event
};

Result<EventBatch> DecodeBatch(std::string_view payload, const DecodeOptions& options = {});

// Only the data-parallel rank of a batch; nullopt when absent or unreadable.
std::optional<uint32_t> BatchRank(std::string_view payload);

struct EncodeOptions {
  EventFormat format = EventFormat::kMap;
  // Positional form: how many fields a BlockStored has (5: 0.9, 6: 0.10.2, 7: 0.14, 8: 0.17, 9:
  // 0.20, 11: 0.22 and 0.23).
  int stored_fields = 11;
};

// Fields a form does not have are left out. Byte-identical to what the engine of that form writes.
std::string EncodeBatch(const EventBatch& batch, const EncodeOptions& options = {});

}  // namespace warmpath::kv
