// Token ids of pieces of text, bounded in bytes; the least recently used piece goes first.
//
// A piece is found by its whole text, never by a hash alone, so a hit is exact. Owned by the
// Encoder; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "kv/types.h"

namespace warmpath::prompt {

class PieceCache {
 public:
  using Ids = std::shared_ptr<const std::vector<kv::TokenId>>;

  explicit PieceCache(size_t bytes) : shard_bytes_(bytes / kShards) {}

  // nullptr when unknown.
  Ids Find(std::string_view piece);
  // Keeps the ids already there when the piece is known. A piece larger than a sixteenth of the
  // budget is not kept.
  void Put(std::string_view piece, Ids ids);
  // Bytes in use, bookkeeping included.
  size_t bytes() const;

 private:
  static constexpr size_t kShards = 16;

  struct Entry {
    std::string text;
    Ids ids;
    size_t bytes = 0;
  };
  struct Hash {
    size_t operator()(std::string_view text) const;
  };
  struct Shard {
    mutable Mutex mutex;
    std::list<Entry> recent GUARDED_BY(mutex);  // newest first
    // Keys view the text of their entry, which a list never moves.
    std::unordered_map<std::string_view, std::list<Entry>::iterator, Hash> by_text
        GUARDED_BY(mutex);
    size_t bytes GUARDED_BY(mutex) = 0;
  };

  Shard& ShardOf(std::string_view piece);

  const size_t shard_bytes_;
  std::array<Shard, kShards> shards_;
};

}  // namespace warmpath::prompt
