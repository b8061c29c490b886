// What a chat template makes of a conversation whatever its texts say: the rendered text with gaps
// where the texts of messages go. Immutable; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "prompt/tokenizer.h"

namespace warmpath::prompt {

struct Shape {
  // A fixed text with the ends of the special tokens in it.
  struct Literal {
    std::string text;
    std::vector<uint64_t> ends;
  };
  std::vector<Literal> literals;  // one more than gaps: before, between and behind them
  std::vector<uint32_t> gaps;     // which text goes there; in any order, any number of times
  bool add_special_tokens = false;
  uint64_t truncate_to = 0;

  size_t bytes() const;
};
using ShapePtr = std::shared_ptr<const Shape>;

// Stands in for text number i while a body is rendered. What it begins with is drawn once per
// process, so that no client can have written it.
void AppendStandIn(size_t i, std::string& out);

// `body`: a chat body with stand-ins in place of `texts` texts. Null where that tells nothing of
// the body with the texts themselves: it has to be rendered as it is. `now` as for RenderChatBody.
ShapePtr MakeShape(const Tokenizer& tokenizer, std::string_view body, size_t texts, int64_t now);

// Shapes by what they were made of, bounded in bytes; the least recently used goes first. Null is
// kept too.
class ShapeCache {
 public:
  explicit ShapeCache(size_t bytes) : shard_bytes_(bytes / kShards) {}

  std::optional<ShapePtr> Find(std::string_view key);
  void Put(std::string_view key, ShapePtr shape);
  size_t bytes() const;

 private:
  static constexpr size_t kShards = 16;

  struct Entry {
    std::string key;
    ShapePtr shape;
    size_t bytes = 0;
  };
  struct Hash {
    size_t operator()(std::string_view text) const;
  };
  struct Shard {
    mutable Mutex mutex;
    std::list<Entry> recent GUARDED_BY(mutex);  // newest first
    // Keys view those of their entry, which a list never moves.
    std::unordered_map<std::string_view, std::list<Entry>::iterator, Hash> by_key GUARDED_BY(mutex);
    size_t bytes GUARDED_BY(mutex) = 0;
  };

  Shard& ShardOf(std::string_view key);

  const size_t shard_bytes_;
  std::array<Shard, kShards> shards_;
};

}  // namespace warmpath::prompt
