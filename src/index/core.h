// The index's data and the operations of its writer: runs and their strands, who covers them, the
// tables that find them, the queue of what goes first under the budget.
//
// Invariants, outside of an operation:
// - A key is in at most one run, at one place.
// - A strand's hash is in the table of hashes exactly while a lane covers the block in that strand.
//   A lane covers at most one block per hash and group of its holder (its alias).
// - A run ends with a block that is covered or that a child follows; one without either is gone.
// - Runs without children are in the queue.
// Everything here is under one lock, which KvIndex holds; Matcher reads beside it.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "index/coverage.h"
#include "index/kv_index.h"
#include "index/lanes.h"
#include "index/place_table.h"
#include "index/run.h"

namespace warmpath::index {

enum class Ended { kRemoved, kCleared, kBudget };

// Counted set of parent keys of runs whose parent nobody had. Readers ask MayContain.
class AbsentParents {
 public:
  struct Parent {
    uint32_t runs = 0;
    bool stored_since = false;
  };
  bool MayContain(kv::BlockKey key) const {
    const uint64_t bit = Hash(key);
    return (Load(&bits_[bit / 64]) >> (bit % 64) & 1) != 0;
  }
  Parent* Find(kv::BlockKey key) { return MayContain(key) ? Search(key) : nullptr; }
  void Add(kv::BlockKey key);
  void Remove(kv::BlockKey key);
  uint64_t used_bytes() const { return parents_.size() * kParentBytes; }

 private:
  static constexpr uint64_t kParentBytes = 64;
  static constexpr uint64_t kBits = 4096;
  Parent* Search(kv::BlockKey key);
  static uint64_t Hash(kv::BlockKey key) { return (key * 0x9e3779b97f4a7c15ULL) >> 52; }
  uint64_t bits_[kBits / 64] = {};
  std::array<uint32_t, kBits> counts_{};
  std::unordered_map<kv::BlockKey, Parent> parents_;
};

struct Core {
  explicit Core(uint64_t budget_bytes);

  // --- storing.cc ---
  size_t Store(Holder holder, Tier tier, uint32_t group, const Parent& parent,
               std::span<const kv::EngineHash> hashes, std::span<const kv::BlockKey> keys);
  size_t StoreKnown(Holder holder, Tier tier, uint32_t group,
                    std::span<const kv::EngineHash> hashes);

  // --- removing.cc ---
  size_t Remove(Holder holder, Tier tier, uint32_t group, std::span<const kv::EngineHash> hashes);
  // Tiers as a mask.
  size_t Clear(Holder holder, uint32_t tiers);
  // Takes retired lanes off runs, about `effort` blocks' worth.
  void Sweep(uint32_t effort);

  // --- finding.cc ---
  std::optional<Parent> FindParent(Holder holder, uint32_t group, kv::EngineHash hash);
  std::vector<BlockAlias> Dump(Holder holder, uint32_t group);
  uint64_t bytes() const;

  const uint64_t budget;
  Arena arena;   // arrays and coverage
  Arena tables;  // of `hashes` and `heads`
  RunPool runs;
  PlaceTable hashes;
  PlaceTable heads;
  Lanes lanes;
  Coverage coverage;
  AbsentParents absent;
  Field<uint32_t> tick;  // moves on as blocks are stored; what a match marks a run with
  IndexStats stats;

 private:
  // A strand and a block in it; the block counts from the beginning of the run.
  struct Spot {
    RunId strand = 0;
    uint32_t block = 0;
  };

  // --- finding.cc ---
  RunId FindHead(kv::BlockKey key) const;
  // The place of a parent; none when nobody has it.
  Place Locate(const Parent& parent);
  // The alias `hash` of a holder in `group`: where any of its lanes covers it.
  Spot FindAlias(const HolderState& holder, uint32_t group, kv::EngineHash hash) const;
  bool CoversAlias(const HolderState& holder, uint32_t group, Spot spot) const;
  Run& RunOf(const Run& strand) const { return runs[strand.run]; }
  kv::EngineHash HashAt(const Run& strand, uint32_t block) const {
    return Load(arena.Words(strand.hashes) + (block - strand.base));
  }
  kv::BlockKey KeyAt(const Run& run, uint32_t block) const {
    return Load(arena.Words(run.keys) + block);
  }
  Place PlaceIn(RunId strand, uint32_t block) const { return {strand, block - runs[strand].base}; }
  bool SingleStrand(const Run& run) const { return run.next_strand == 0; }

  // --- storing.cc ---
  struct Storing;  // one call
  // New blocks behind *at (none: without a parent), which moves on to the last of them. Returns how
  // many; 0 when there is no room.
  uint32_t Append(Storing& storing, Place* at);
  RunId BeginRun(Storing& storing, Place at, uint32_t blocks);
  // Blocks of the run that others have announced already. Returns how many; fewer without room.
  uint32_t Join(Storing& storing, RunId run, uint32_t from, uint32_t count);
  // Puts the hashes of `count` blocks, stored from `index` on, into a strand from `block` on; stops
  // before one that needs other treatment. Returns how many.
  uint32_t Name(Storing& storing, RunId strand, uint32_t block, size_t index, uint32_t count);
  bool NameTwin(Storing& storing, RunId strand, uint32_t first, uint32_t block,
                kv::EngineHash hash);
  void DropRenamed(Storing& storing);
  // Moves the strand's end behind newly named blocks, if it was before, and covers them.
  void Commit(Storing& storing, RunId strand, uint32_t from, uint32_t to);
  // A strand with room for new names of *count blocks; cuts *count. None without room.
  RunId StrandFor(LaneId lane, RunId run, uint32_t block, uint32_t* count);
  // Arrays for that many blocks.
  bool Reserve(Run& strand, uint32_t blocks);
  // One more copy each; returns how many residencies are new.
  size_t AddCopies(LaneId lane, RunId strand, uint32_t from, uint32_t to);
  size_t Cover(LaneId lane, RunId strand, uint32_t from, uint32_t to);

  // --- removing.cc ---
  // Ends a lane's coverage of [from, to), all of which it has. Returns residencies ended. The
  // caller trims the run.
  size_t Uncover(LaneId lane, RunId strand, uint32_t from, uint32_t to, Ended reason);
  bool RemoveTail(LaneId lane, RunId run, uint32_t from, uint32_t to);
  size_t RemoveCopies(LaneId lane, Spot spot, std::span<const kv::EngineHash> hashes,
                      size_t* taken);
  void FetchBefore(const Run& strand, uint32_t block, size_t names) const;
  void DropAlias(HolderState& holder, uint32_t group, Spot spot);
  void CountEnded(LaneId lane, size_t ended, Ended reason);
  // Takes the hashes of blocks that nobody covers in the strand any more out of the table.
  void Unname(RunId strand, uint32_t from, uint32_t to);
  // Blocks of [from, to) that no other lane of the holder and tier covers, nor this one elsewhere.
  uint32_t Alone(LaneId lane, RunId strand, uint32_t from, uint32_t to);
  // Blocks of [from, to) of the run that no lane covers.
  uint32_t Bare(const Run& run, uint32_t from, uint32_t to) const;
  uint32_t SweepRun(RunId id);
  static uint64_t CopiesKey(LaneId lane, Place place);
  void ForgetExtraCopies(LaneId lane, RunId strand, uint32_t from, uint32_t to);

  // --- evicting.cc ---
  void Trim(RunId id);  // gives back what nobody needs at the end of a run; may free it
  void Shrink(Run& strand);
  void TrimStrands(Run& run, uint32_t* end);
  void FreeRun(RunId id);
  void FreeStrand(RunId id);
  void Pin(RunId id);
  void Unpin(RunId id);
  void Enqueue(RunId id);
  void Dequeue(RunId id);
  // Evicts until `more` bytes fit; false when nothing is left to evict.
  bool MakeRoom(uint64_t more);
  RunId Oldest();
  void EvictFrom(RunId id, uint32_t blocks);
  void AdvanceTick(size_t stored);

  struct Link {
    RunId previous = 0, next = 0;
  };
  void SetNext(RunId id, RunId next);
  void SetPrevious(RunId id, RunId previous);

  const uint64_t run_budget_;
  // Copies beyond the first, by place and lane. Bounded through bytes().
  std::unordered_map<uint64_t, uint64_t> extra_copies_;
  RunId sweep_at_ = 0;
  uint64_t stored_since_tick_ = 0;
  // The queue: rings by the tick at which a run was queued, each closed by an end whose id is
  // behind those of the pool. Ticks further back than kQueues share the oldest ring.
  static constexpr uint32_t kQueues = 256;
  std::array<Link, kQueues> ends_{};
  uint32_t oldest_ = 1;  // no run was queued at an earlier tick
};

}  // namespace warmpath::index
