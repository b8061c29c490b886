// The physical blocks of one engine core's KV cache: reference counts, the queue of free blocks,
// and the map from block hash to the blocks that hold it. Works as vLLM's block pool is seen to
// work: a freed block keeps its content until it is popped for reuse, which is when its removal is
// announced; blocks are reused least recently freed first, a request's last block first.
//
// Owned by one EngineCore, confined to its thread. No I/O, no clock.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "kv/types.h"
#include "sim/cache_event.h"

namespace warmpath::sim {

class BlockPool {
 public:
  using BlockId = uint32_t;

  // What /debug/kv shows of one resident block.
  struct Resident {
    BlockHash hash;
    std::optional<BlockHash> parent;
    std::span<const kv::TokenId> tokens;
    uint32_t references = 0;
  };

  // `blocks` as in --num-gpu-blocks-override: one of them is the null block and never holds
  // anything. With `reuse_empty_first` a freed block that holds nothing goes to the front of the
  // free queue (seen in vLLM 0.32; not in 0.14 and 0.23).
  BlockPool(uint32_t blocks, uint32_t block_size, bool reuse_empty_first = true);

  uint32_t block_size() const { return block_size_; }
  size_t free_blocks() const { return free_count_; }
  // Blocks that can hold something: one less than configured.
  size_t usable_blocks() const { return slots_.size() - 1; }
  // Distinct physical blocks with announced content.
  size_t cached_blocks() const { return cached_count_; }

  // Blocks that hold the longest resident run at the front of `hashes`; references are not taken.
  std::vector<BlockId> FindPrefix(std::span<const BlockHash> hashes) const;
  // How many of `blocks` nobody references: taking them shrinks the free queue by that many.
  size_t CountUnreferenced(std::span<const BlockId> blocks) const;
  // Takes one reference on each.
  void Touch(std::span<const BlockId> blocks);
  // Appends `count` blocks from the front of the free queue to `out`, one reference each; evicts
  // what they held. Precondition: count <= free_blocks().
  void Allocate(size_t count, std::vector<BlockId>& out);
  // Drops one reference on each of a request's blocks, the last block first.
  void Free(std::span<const BlockId> blocks);

  // Gives `blocks`, which hold nothing yet, the contents of blocks [first, first + blocks.size())
  // of a chain and announces them as one run. `hashes` and `tokens` are those of the whole chain.
  void Store(std::span<const BlockId> blocks, size_t first, std::span<const BlockHash> hashes,
             std::span<const kv::TokenId> tokens, std::shared_ptr<const CacheScope> scope);
  // Announces the first `count` blocks of a chain again, without changing anything.
  void Report(size_t count, std::span<const BlockHash> hashes, std::span<const kv::TokenId> tokens,
              std::shared_ptr<const CacheScope> scope);

  // Forgets all contents; fails while any block is referenced.
  bool Reset();

  // Events since the last call, in order.
  std::vector<CacheEvent> TakeEvents();
  // Every block with content, in no particular order. Valid until the next change.
  std::vector<Resident> Residents() const;

 private:
  struct Slot {
    bool cached = false;
    uint32_t references = 0;
    BlockId previous = 0, next = 0;  // neighbours in the free queue
    BlockHash hash{};
    std::optional<BlockHash> parent;
    std::vector<kv::TokenId> tokens;
  };

  void Link(BlockId id, BlockId before);
  void Unlink(BlockId id);
  void Evict(BlockId id);

  const uint32_t block_size_;
  const bool reuse_empty_first_;
  // Slot 0 is the null block; its links are the ends of the free queue.
  std::vector<Slot> slots_;
  size_t free_count_ = 0;
  size_t cached_count_ = 0;
  // Oldest copy first; a hash with no copy has no entry.
  std::unordered_map<BlockHash, std::vector<BlockId>, BlockHashHasher> by_hash_;
  std::vector<CacheEvent> events_;
};

}  // namespace warmpath::sim
