// The KV-block index: which endpoint holds which blocks, exactly as the engines' events say.
//
// Holders are (endpoint, data-parallel rank). Blocks are known by our own chained keys (kv/keys.h);
// engine hashes are aliases per (holder, cache group), used to find parents and removals only.
// Copies are counted per (holder, tier, group, hash): a second store of the same block needs a
// second removal. Thread-safe: any number of readers and writers; events of one holder must come
// from one thread at a time.
//
// Memory is bounded by `budget_bytes`: over it, leaves go first, least recently matched first
// (counted as evictions with reason "budget"). What the index forgot under the budget is a miss,
// never a wrong hit. A leaf is a block that no resident block names as its parent; storing counts
// as a match. Seven eighths of the budget are for resident blocks, one eighth for holds; a hold
// that does not fit covers fewer blocks (an underestimate).
//
// The structure (ADR 14): runs of blocks with a bit per holder. Match takes no lock and writes
// nothing shared but a mark of use per run; operations that change the index take one lock each.
// Store and Remove cost O(1) per block, Clear O(1) and a bounded part of the sweep, which later
// operations go on with. stats().bytes is everything allocated but a few hundred KiB that do not
// grow.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kv/types.h"

namespace warmpath::index {

struct Holder {
  uint32_t endpoint = 0;  // fleet::EndpointId, never reused within a process
  uint16_t rank = 0;
  friend bool operator==(const Holder&, const Holder&) = default;
  friend auto operator<=>(const Holder&, const Holder&) = default;
};

// Where a copy lies. Everything that is not GPU memory restores at a cost.
enum class Tier : uint8_t { kGpu = 0, kCpu = 1, kDisk = 2, kOther = 3 };
inline constexpr size_t kTiers = 4;

struct BlockAlias {
  kv::BlockKey key;
  kv::EngineHash hash;
};

// A block as the place where a chain goes on. `at` is the index's own hint where the block lies:
// 0 = none; an outdated one costs time, never exactness.
struct Parent {
  // `at` of a key that is no block's: of a chain's beginning. Saves a search.
  static constexpr uint64_t kRoot = ~uint64_t{0};

  kv::BlockKey key = 0;
  uint64_t at = 0;
};

// How far one holder's cache covers a prompt, in blocks from block 0 without a hole.
struct HolderMatch {
  Holder holder;
  uint32_t blocks = 0;           // resident in any tier, by events
  uint32_t gpu_blocks = 0;       // resident on the GPU all the way
  uint32_t expected_blocks = 0;  // >= blocks: also counting blocks held speculatively (Hold)
};

struct IndexStats {
  uint64_t blocks = 0;   // distinct keys
  uint64_t entries = 0;  // (key, holder, tier) residencies
  uint64_t bytes = 0;    // accounted memory
  uint64_t budget_bytes = 0;
  uint64_t admissions =
      0;  // residencies added through events; copies, repeats and holds do not count
  uint64_t evicted_removed = 0;  // residencies gone by BlockRemoved
  uint64_t evicted_cleared = 0;  // by AllBlocksCleared or Clear
  uint64_t evicted_budget = 0;   // by the memory budget
  uint64_t duplicate_stores = 0;
  uint64_t unknown_removals = 0;
  uint64_t holds = 0;
};

using HoldId = uint64_t;

class KvIndex {
 public:
  explicit KvIndex(uint64_t budget_bytes);
  ~KvIndex();
  KvIndex(const KvIndex&) = delete;
  KvIndex& operator=(const KvIndex&) = delete;

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
