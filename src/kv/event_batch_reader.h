// Reads KV-event batches in place, for whoever applies them at once: views into the payload and
// into memory that is used again for the next batch. The only decoder of batches; event_batch.h
// makes copies of what it reads.
//
// Bounded and tolerant as event_batch.h says. Confined to one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kv/event_batch.h"
#include "kv/types.h"

namespace warmpath::codec {
class MsgpackReader;
}

namespace warmpath::kv {

enum class EventField : uint8_t;

enum class EventKind : uint8_t { kStored, kRemoved, kCleared };

// One event; fields that its kind or form does not have are empty. See BlockStored for what they
// mean.
struct EventView {
  EventKind kind = EventKind::kCleared;
  uint32_t block_size = 0;
  std::span<const EngineHash> hashes;
  std::span<const TokenId> tokens;
  std::optional<EngineHash> parent;
  std::optional<uint32_t> group_idx;
  std::optional<uint32_t> sliding_window;
  std::optional<int64_t> lora_id;
  std::optional<std::string_view> medium, lora_name, spec_kind, locality, ownership, session_id,
      cache_salt;
  std::string_view extra_keys;  // msgpack of the list, "" = nil or absent
  // As they came: msgpack of the list and the digest, "" when it is an integer.
  std::string_view raw_hashes, wide_parent;
};

struct EventBatchView {
  double ts = 0;
  std::span<const EventView> events;
  std::optional<uint32_t> rank;
  std::string_view publisher_id;
  EventFormat format = EventFormat::kMap;
  uint64_t skipped_fields = 0;
  uint64_t skipped_tags = 0;
  uint64_t bad_events = 0;
};

// Memory for the arrays of one batch at a time: what it gave stays where it is until Clear.
template <typename T>
class BatchArena {
 public:
  // Room for `count`, not initialised.
  T* Take(size_t count);
  void Clear();

  struct Mark {
    size_t chunk, used;
  };
  Mark mark() const { return {chunk_, used_}; }
  void ReturnTo(Mark mark) {
    chunk_ = mark.chunk;
    used_ = mark.used;
  }

 private:
  static constexpr size_t kChunk = 16 * 1024;  // values
  static constexpr size_t kKept = 1 << 20;     // values; more is freed when the batch is done
  struct Chunk {
    std::unique_ptr<T[]> values;
    size_t size = 0;
  };
  std::vector<Chunk> chunks_;
  size_t chunk_ = 0;  // the one in use
  size_t used_ = 0;   // of it
};

// An event of event_batch.h as a view, without raw_hashes.
EventView ViewOf(const Event& event);

class EventBatchReader {
 public:
  explicit EventBatchReader(const DecodeOptions& options = {}) : options_(options) {}

  // The view holds until the next Read, while `payload` lives.
  Result<EventBatchView> Read(std::string_view payload);

 private:
  enum class Outcome { kRead, kUnknownTag, kBad };
  static constexpr size_t kKeptEvents = 4096;  // room kept for the next batch

  bool ReadArrayBatch(codec::MsgpackReader& reader);
  bool ReadMapBatch(codec::MsgpackReader& reader);
  bool ReadRank(codec::MsgpackReader& reader);
  bool ReadPublisher(codec::MsgpackReader& reader);
  bool ReadEvents(codec::MsgpackReader& reader);
  Outcome ReadOne(codec::MsgpackReader& reader, bool nested);
  bool ReadEvent(codec::MsgpackReader& reader, EventKind kind, uint32_t count, bool map);
  bool ReadHashes(codec::MsgpackReader& reader, EventView& event);
  bool ReadTokens(codec::MsgpackReader& reader, EventView& event);
  bool ReadField(codec::MsgpackReader& reader, EventField field, EventView& event,
                 uint64_t& skipped);

  const DecodeOptions options_;
  EventBatchView batch_;
  std::vector<EventView> events_;
  BatchArena<EngineHash> hashes_;
  BatchArena<TokenId> tokens_;
};

}  // namespace warmpath::kv
