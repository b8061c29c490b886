// What is known of texts that prompts begin with: token ids and block keys, chunk by chunk.
//
// A node is a chunk of text below the chunks before it. It is found by a keyed hash and proven by
// comparing its bytes, so a hit is exact. Nodes never change, but for the block keys they collect;
// whoever holds one holds all before it, also after it left the trie. Bounded in bytes: leaves go
// first, least recently used first. Owned by the Encoder; any thread: lookups lock one of many
// shards for a moment, only what adds a node takes turns.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "kv/types.h"
#include "prompt/json_scan.h"
#include "prompt/words.h"

namespace warmpath::prompt {

// A stretch of text: as it is, or as the inside of a JSON string.
struct TextSpan {
  std::string_view bytes;
  bool raw = false;
  bool starts = false;  // here a long text of a body begins (KnownTexts); tells no chunks apart
};

class PrefixNode;
using PrefixNodePtr = std::shared_ptr<const PrefixNode>;

// Bytes of one body that were found to be those kept in nodes, in the body's order. One thread.
class ProvenBytes {
 public:
  void Clear();
  // `size` bytes at `at`, behind those of the last call, are those at `kept`, in a node that is
  // then held.
  void Add(const char* at, const char* kept, size_t size);
  // Until Clear, `node` and all before it stay what and where they are.
  void Hold(PrefixNodePtr node);
  // Whether that was added of these bytes.
  bool Covers(const char* at, const char* kept, size_t size) const;
  size_t bytes() const;  // added

 private:
  struct Range {
    const char* at = nullptr;
    const char* kept = nullptr;
    size_t size = 0;
  };
  std::vector<Range> ranges_;
  std::vector<PrefixNodePtr> held_;
};

// What a chunk's text came to.
struct EncodedChunk {
  std::vector<kv::TokenId> ids;
  size_t text_bytes = 0;
  WordRun last_word;  // of the whole text up to the chunk's end
};

class PrefixNode {
 public:
  PrefixNode(PrefixNodePtr parent, std::span<const TextSpan> chunk, EncodedChunk encoded);
  ~PrefixNode();
  PrefixNode(const PrefixNode&) = delete;
  PrefixNode& operator=(const PrefixNode&) = delete;

  const PrefixNodePtr& parent() const { return parent_; }  // null for a root
  const std::vector<kv::TokenId>& ids() const { return ids_; }
  size_t tokens() const { return tokens_; }  // up to the chunk's end
  const WordRun& last_word() const { return last_word_; }

  // The chunk's text.
  void AppendText(std::string& out) const;
  // From the root to `this`.
  std::vector<const PrefixNode*> Path() const;

  // So many bytes behind this chunk, texts that had more in common were seen to part; 0: none were.
  size_t fork() const { return fork_.load(std::memory_order_relaxed); }
  void SetFork(size_t bytes) const;
  // How many of the leading bytes of `chunk` stand at the start of the child asked for last.
  size_t CommonBytes(std::span<const TextSpan> chunk) const;

  // A span of the chunk.
  struct Stretch {
    size_t size = 0;
    bool raw = false;
    bool inside = false;  // whatever it was, it could stand inside a JSON string, with these marks
    TextMarks marks;
  };
  const std::vector<Stretch>& stretches() const { return stretches_; }
  const std::string& bytes() const { return bytes_; }  // of all of them
  // The child that was asked for last; null when there is none. It and its text are fetched ahead.
  PrefixNodePtr LatestChild() const;

 private:
  friend class PrefixTrie;
  friend class ChainKeys;

  using KeyList = std::shared_ptr<const std::vector<kv::BlockKey>>;
  // Keys of the blocks that end in a stretch of the path, in a few key spaces.
  struct Keys {
    struct Space {
      kv::BlockKey root = 0;
      uint32_t block_size = 0;
      KeyList keys;
    };
    std::vector<Space> spaces;
    size_t turn = 0;

    KeyList Find(kv::BlockKey root, uint32_t block_size) const;
    void Keep(Space space);
  };

  bool Holds(std::span<const TextSpan> chunk, const ProvenBytes& proven) const;
  // Keys that end in this chunk, and in the chunks behind span_start_ up to it; null when unknown.
  KeyList ChunkKeys(kv::BlockKey root, uint32_t block_size) const;
  KeyList SpanKeys(kv::BlockKey root, uint32_t block_size) const;
  void KeepChunkKeys(kv::BlockKey root, uint32_t block_size,
                     std::span<const kv::BlockKey> keys) const;
  void KeepSpanKeys(kv::BlockKey root, uint32_t block_size,
                    std::span<const kv::BlockKey> keys) const;
  bool ends_span() const { return depth_ % kSpan == 0; }
  void SetLatest(const std::shared_ptr<const PrefixNode>& child) const REQUIRES(mutex_);

  // So many chunks make a span, whose keys are kept in one piece too: a long path is put together
  // from those of its spans.
  static constexpr size_t kSpan = 8;

  PrefixNodePtr parent_;
  const PrefixNode* span_start_ = nullptr;  // the last before this one that ends a span
  size_t depth_ = 0;
  std::vector<Stretch> stretches_;
  std::string bytes_;
  std::vector<kv::TokenId> ids_;
  size_t tokens_ = 0;
  WordRun last_word_;

  mutable Mutex mutex_;
  mutable Keys chunk_keys_ GUARDED_BY(mutex_);
  mutable Keys span_keys_ GUARDED_BY(mutex_);
  // The child that was asked for last: nearly always the next one too.
  mutable std::weak_ptr<const PrefixNode> latest_ GUARDED_BY(mutex_);
  // Where that child and its text are, to be fetched ahead; never read through.
  mutable std::atomic<const void*> latest_place_{nullptr};
  mutable std::atomic<const void*> latest_text_{nullptr};
  mutable std::atomic<uint32_t> fork_{0};

  // The trie's own.
  mutable std::atomic<uint64_t> used_{0};
  uint64_t hash_ = 0;
  bool linked_ = false;  // this and the rest under the trie's mutex
  size_t charge_ = 0;
  size_t children_ = 0;
  uint64_t stamp_ = 0;  // used_ when it was put where it is among the leaves
  std::list<PrefixNode*>::iterator leaf_;
};

// Keys of every full block of the ids of `node`'s path and `tail` behind them; keeps those of the
// path in its nodes.
std::vector<kv::BlockKey> KeysOfChain(const PrefixNode& node, std::span<const kv::TokenId> tail,
                                      kv::BlockKey root, uint32_t block_size);

class PrefixTrie {
 public:
  explicit PrefixTrie(size_t bytes) : max_bytes_(bytes) {}

  // A place for chunks to hang below, of its own; `ids` stand before all text. Not counted.
  static PrefixNodePtr MakeRoot(std::vector<kv::TokenId> ids);

  // Null when unknown. What is `proven` is not compared again.
  PrefixNodePtr Find(const PrefixNodePtr& parent, std::span<const TextSpan> chunk,
                     const ProvenBytes& proven = {});
  // The chunk's node, in the trie unless it is too large or its parent has left. The one already
  // there when another thread was faster.
  PrefixNodePtr Add(const PrefixNodePtr& parent, std::span<const TextSpan> chunk,
                    EncodedChunk encoded);

  size_t bytes() const;

 private:
  static constexpr size_t kShards = 64;

  struct Shard {
    Mutex mutex;
    std::unordered_map<uint64_t, std::shared_ptr<PrefixNode>> nodes GUARDED_BY(mutex);
  };

  static uint64_t HashOf(const PrefixNode& parent, std::span<const TextSpan> chunk);
  void Touch(const PrefixNode& node) const;
  Shard& ShardOf(uint64_t hash) { return shards_[hash >> 58]; }
  void Evict() REQUIRES(mutex_);
  void Unlink(PrefixNode& node) REQUIRES(mutex_);

  const size_t max_bytes_;
  std::atomic<uint64_t> clock_{0};
  std::array<Shard, kShards> shards_;
  mutable Mutex mutex_;                               // before a shard's
  std::list<PrefixNode*> leaves_ GUARDED_BY(mutex_);  // newest first
  size_t bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace warmpath::prompt
