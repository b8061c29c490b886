// Turns decoded event batches of one publisher into index calls: engine hashes to our keys, groups,
// tiers, and children that came before their parent. Transport-free. Confined to the publisher's
// thread.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "index/kv_index.h"
#include "kv/event_batch_reader.h"

namespace warmpath::events {

// By name of the medium, any case; absent = GPU.
index::Tier TierOfMedium(std::string_view medium);

struct ApplierLimits {
  size_t max_orphan_blocks = 4096;
  Duration max_orphan_age = std::chrono::seconds(10);
};

// Monotonic counts.
struct ApplierCounts {
  uint64_t stores = 0;      // BlockStored events that reached the index or wait for their parent
  uint64_t bad_stores = 0;  // token count and hash count disagree, or no block size
  uint64_t orphan_blocks_dropped = 0;
  uint64_t stores_of_other_groups = 0;  // sliding-window, mamba and other groups
  uint64_t removals_of_other_groups = 0;
  // Block size is not the one learned (connectors with chunks of their own).
  uint64_t stores_of_other_sizes = 0;
  uint64_t unknown_extras = 0;
};

class Applier {
 public:
  Applier(index::KvIndex& index, index::Holder holder, ApplierLimits limits)
      : index_(index), holder_(holder), limits_(limits) {}

  void Apply(std::span<const kv::EventView> events, TimePoint now);
  // Drops orphans that waited too long.
  void Expire(TimePoint now);
  // Clears the holder and forgets what was learned (restart, gap).
  void Reset();

  uint32_t block_size() const { return block_size_; }  // 0 = not learned
  bool hybrid() const { return groups_.size() > 1; }
  size_t orphan_blocks() const { return orphan_blocks_; }
  const ApplierCounts& counts() const { return counts_; }

 private:
  // One BlockStored that waits for its parent.
  struct Run {
    index::Tier tier = index::Tier::kGpu;
    uint32_t group = 0;
    kv::EngineHash parent = 0;
    std::vector<kv::EngineHash> hashes;
    std::vector<kv::TokenId> tokens;
    std::vector<std::string> extras;  // per block, or empty
  };
  struct Orphan {
    Run run;
    TimePoint since;
    std::vector<std::pair<index::Tier, kv::EngineHash>> removed;  // removals that came meanwhile
  };

  void ApplyStored(const kv::EventView& stored, TimePoint now);
  void ApplyRemoved(const kv::EventView& removed);
  void ApplyCleared();
  bool IsIndexed(uint32_t group) const;
  void Store(index::Tier tier, uint32_t group, const index::Parent& parent,
             std::span<const kv::EngineHash> hashes, std::span<const kv::TokenId> tokens,
             std::span<const std::string> extras);
  void Hold(Run run, TimePoint now);
  void AdoptChildren();
  bool RemoveFromOrphans(index::Tier tier, uint32_t group, kv::EngineHash hash);

  index::KvIndex& index_;
  const index::Holder holder_;
  const ApplierLimits limits_;
  uint32_t block_size_ = 0;
  std::map<uint32_t, bool> groups_;  // group -> indexed
  std::list<Orphan> orphans_;        // oldest first
  size_t orphan_blocks_ = 0;
  std::vector<kv::BlockKey> keys_;  // of the run being stored
  ApplierCounts counts_;
};

}  // namespace warmpath::events
