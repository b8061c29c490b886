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
#include "prompt/words.h"

namespace warmpath::prompt {

// A stretch of text: as it is, or as the inside of a JSON string.
struct TextSpan {
  std::string_view bytes;
  bool raw = false;
};

class PrefixNode;
using PrefixNodePtr = std::shared_ptr<const PrefixNode>;

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
  // From the root's first child to `this`.
  std::vector<const PrefixNode*> Path() const;

 private:
  friend class PrefixTrie;
  friend class ChainKeys;

  struct Stretch {
    size_t size = 0;
    bool raw = false;
  };
  // Keys of the blocks that end in this chunk, in one key space.
  struct Keys {
    kv::BlockKey root = 0;
    uint32_t block_size = 0;
    std::vector<kv::BlockKey> keys;
  };

  bool Holds(std::span<const TextSpan> chunk) const;
  bool AppendKeys(kv::BlockKey root, uint32_t block_size, std::vector<kv::BlockKey>& out) const;
  void KeepKeys(kv::BlockKey root, uint32_t block_size, std::span<const kv::BlockKey> keys) const;

  PrefixNodePtr parent_;
  std::vector<Stretch> stretches_;
  std::string bytes_;
  std::vector<kv::TokenId> ids_;
  size_t tokens_ = 0;
  WordRun last_word_;

  mutable Mutex mutex_;
  mutable std::vector<Keys> keys_ GUARDED_BY(mutex_);
  mutable size_t keys_turn_ GUARDED_BY(mutex_) = 0;
  // The child that was asked for last: nearly always the next one too.
  mutable std::weak_ptr<const PrefixNode> latest_ GUARDED_BY(mutex_);

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

  // Null when unknown.
  PrefixNodePtr Find(const PrefixNodePtr& parent, std::span<const TextSpan> chunk);
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
