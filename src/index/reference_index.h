// The index in its simplest exact form, one hash map of nodes behind one readers-writer lock: the
// oracle of KvIndex in tests and benchmarks. The same operations with the same meaning; budgets
// count what this structure takes. Thread-safe.
#pragma once

#include "index/kv_index.h"

namespace warmpath::index {

class ReferenceIndex {
 public:
  explicit ReferenceIndex(uint64_t budget_bytes);
  ~ReferenceIndex();
  ReferenceIndex(const ReferenceIndex&) = delete;
  ReferenceIndex& operator=(const ReferenceIndex&) = delete;

  // Key of the block `hash` as this holder announced it, if it is resident there in that group (any
  // tier).
  std::optional<kv::BlockKey> Find(Holder holder, uint32_t group, kv::EngineHash hash) const;

  // The same as a parent to store under.
  std::optional<Parent> FindParent(Holder holder, uint32_t group, kv::EngineHash hash) const;

  // Consecutive blocks of one chain now resident, block i being `keys[i]`, announced as
  // `hashes[i]` (same length). Returns how many residencies are new.
  size_t Store(Holder holder, Tier tier, uint32_t group, const Parent& parent,
               std::span<const kv::EngineHash> hashes, std::span<const kv::BlockKey> keys);
  // Consecutive blocks of one chain now resident; `parent` is the key before the first (a root key
  // for block 0). Returns how many residencies are new.
  size_t Store(Holder holder, Tier tier, uint32_t group, kv::BlockKey parent,
               std::span<const BlockAlias> blocks);
  // The same blocks now also in `tier`, for stores that name only hashes (offloading connectors).
  // Hashes this holder does not have in `group` are ignored. Returns how many residencies are new.
  size_t StoreKnown(Holder holder, Tier tier, uint32_t group,
                    std::span<const kv::EngineHash> hashes);
  // One copy less of each; a residency ends when its last copy goes. Unknown hashes are counted.
  // Returns residencies ended.
  size_t Remove(Holder holder, Tier tier, uint32_t group, std::span<const kv::EngineHash> hashes);
  // Everything of one holder, or of every rank of an endpoint. Returns residencies ended. Holds
  // stay.
  size_t Clear(Holder holder);
  // What AllBlocksCleared means with kGpu: offloaded copies stay.
  size_t ClearTier(Holder holder, Tier tier);
  size_t ClearEndpoint(uint32_t endpoint);

  // Coverage of `keys` (a chain from block 0) by every holder with at least one block, resident or
  // held; ordered by holder. Marks the blocks as recently used.
  std::vector<HolderMatch> Match(std::span<const kv::BlockKey> keys) const;

  // The same into `out`, whose memory is used again.
  void Match(std::span<const kv::BlockKey> keys, std::vector<HolderMatch>& out) const;

  // Speculative blocks: what a holder will have once the request just routed to it was prefilled.
  // Counted in expected_blocks only. `keys` is a chain from block 0. Returns 0, which Release
  // ignores, when nothing is held.
  HoldId Hold(Holder holder, std::span<const kv::BlockKey> keys);
  void Release(HoldId id);

  // Residencies of one holder (all tiers), for eviction forecasts and the endpoints API.
  uint64_t ResidentBlocks(Holder holder) const;
  uint64_t EndpointBlocks(uint32_t endpoint) const;
  // Every (hash) alias of a holder in `group`, unordered: ground truth for tests and /api.
  std::vector<BlockAlias> Dump(Holder holder, uint32_t group) const;
  IndexStats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmpath::index
