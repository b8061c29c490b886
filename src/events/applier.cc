#include "events/applier.h"

#include <algorithm>
#include <optional>
#include <span>

#include "base/units.h"
#include "kv/extra_keys.h"
#include "kv/keys.h"

namespace warmpath::events {

namespace {

constexpr size_t kMaxGroups = 64;

constexpr size_t kKeptKeys = 4096;

// Whether every block of a prefix must be resident in a group of that kind.
bool CoversPrefixes(const std::optional<std::string_view>& kind) {
  return !kind || *kind == "full_attention" || *kind == "mla_attention" ||
         *kind == "sink_full_attention";
}

}  // namespace

index::Tier TierOfMedium(std::string_view medium) {
  const std::string name = ToLower(medium);
  if (name.empty() || name == "gpu") return index::Tier::kGpu;
  if (name == "cpu" || name == "cpu_pinned" || name == "cpu_tier1") return index::Tier::kCpu;
  if (name == "fs" || name == "obj" || name == "storage" || name == "disk" || name == "cpu_tier2" ||
      name == "shared_storage" || name == "object_store") {
    return index::Tier::kDisk;
  }
  return index::Tier::kOther;
}

void Applier::Apply(std::span<const kv::EventView> events, TimePoint now) {
  for (const kv::EventView& event : events) {
    switch (event.kind) {
      case kv::EventKind::kStored:
        ApplyStored(event, now);
        break;
      case kv::EventKind::kRemoved:
        ApplyRemoved(event);
        break;
      case kv::EventKind::kCleared:
        ApplyCleared();
        break;
    }
  }
}

void Applier::ApplyStored(const kv::EventView& stored, TimePoint now) {
  const uint32_t group = stored.group_idx.value_or(0);
  if (groups_.size() < kMaxGroups || groups_.contains(group)) {
    bool& indexed = groups_[group];
    indexed = CoversPrefixes(stored.spec_kind);
  }
  if (!IsIndexed(group)) {
    ++counts_.stores_of_other_groups;
    return;
  }
  if (stored.hashes.empty()) return;
  const index::Tier tier = TierOfMedium(stored.medium.value_or(""));
  if (stored.tokens.empty()) {
    ++counts_.stores;
    index_.StoreKnown(holder_, tier, group, stored.hashes);
    return;
  }
  if (stored.block_size == 0 ||
      stored.tokens.size() != stored.hashes.size() * size_t{stored.block_size}) {
    ++counts_.bad_stores;
    return;
  }
  if (block_size_ == 0) block_size_ = stored.block_size;
  if (stored.block_size != block_size_) {
    ++counts_.stores_of_other_sizes;
    return;
  }
  ++counts_.stores;
  kv::StoredExtras extras = kv::ReadExtras(stored);
  if (!extras.understood) ++counts_.unknown_extras;
  std::optional<index::Parent> parent;
  if (stored.parent) {
    parent = index_.FindParent(holder_, group, *stored.parent);
  } else {
    parent = {kv::RootKey(block_size_, extras.lora_name, extras.cache_salt), index::Parent::kRoot};
  }
  if (!parent) {
    Hold({tier,
          group,
          *stored.parent,
          {stored.hashes.begin(), stored.hashes.end()},
          {stored.tokens.begin(), stored.tokens.end()},
          std::move(extras.blocks)},
         now);
    return;
  }
  Store(tier, group, *parent, stored.hashes, stored.tokens, extras.blocks);
  if (!orphans_.empty()) AdoptChildren();
}

void Applier::ApplyRemoved(const kv::EventView& removed) {
  const uint32_t group = removed.group_idx.value_or(0);
  if (!IsIndexed(group)) {
    ++counts_.removals_of_other_groups;
    return;
  }
  const index::Tier tier = TierOfMedium(removed.medium.value_or(""));
  if (orphans_.empty()) {
    index_.Remove(holder_, tier, group, removed.hashes);
    return;
  }
  for (const kv::EngineHash hash : removed.hashes) {
    const bool known = index_.Find(holder_, group, hash).has_value();
    if (known || !RemoveFromOrphans(tier, group, hash))
      index_.Remove(holder_, tier, group, std::span(&hash, 1));
  }
}

// The GPU's content of this rank; offloaded copies stay.
void Applier::ApplyCleared() {
  index_.ClearTier(holder_, index::Tier::kGpu);
  orphans_.remove_if([](const Orphan& o) { return o.run.tier == index::Tier::kGpu; });
  orphan_blocks_ = 0;
  for (const Orphan& orphan : orphans_) orphan_blocks_ += orphan.run.hashes.size();
}

bool Applier::IsIndexed(uint32_t group) const {
  const auto it = groups_.find(group);
  return it == groups_.end() || it->second;
}

void Applier::Store(index::Tier tier, uint32_t group, const index::Parent& parent,
                    std::span<const kv::EngineHash> hashes, std::span<const kv::TokenId> tokens,
                    std::span<const std::string> extras) {
  keys_.resize(hashes.size());
  kv::ChainKeys(parent.key, tokens, extras, keys_);
  index_.Store(holder_, tier, group, parent, hashes, keys_);
  if (keys_.capacity() > kKeptKeys) std::vector<kv::BlockKey>().swap(keys_);
}

void Applier::Hold(Run run, TimePoint now) {
  if (run.hashes.size() > limits_.max_orphan_blocks) {
    counts_.orphan_blocks_dropped += run.hashes.size();
    return;
  }
  orphan_blocks_ += run.hashes.size();
  orphans_.push_back({std::move(run), now, {}});
  while (orphan_blocks_ > limits_.max_orphan_blocks) {
    const size_t blocks = orphans_.front().run.hashes.size();
    counts_.orphan_blocks_dropped += blocks;
    orphan_blocks_ -= blocks;
    orphans_.pop_front();
  }
}

void Applier::AdoptChildren() {
  for (bool adopted = true; adopted;) {
    adopted = false;
    for (auto it = orphans_.begin(); it != orphans_.end();) {
      const Run& run = it->run;
      const auto parent = index_.FindParent(holder_, run.group, run.parent);
      if (!parent) {
        ++it;
        continue;
      }
      Store(run.tier, run.group, *parent, run.hashes, run.tokens, run.extras);
      for (const auto& [tier, hash] : it->removed)
        index_.Remove(holder_, tier, run.group, std::span(&hash, 1));
      orphan_blocks_ -= run.hashes.size();
      it = orphans_.erase(it);
      adopted = true;
    }
  }
}

bool Applier::RemoveFromOrphans(index::Tier tier, uint32_t group, kv::EngineHash hash) {
  for (Orphan& orphan : orphans_) {
    if (orphan.run.group != group || orphan.run.tier != tier) continue;
    const auto stored = std::count(orphan.run.hashes.begin(), orphan.run.hashes.end(), hash);
    const auto gone =
        std::count(orphan.removed.begin(), orphan.removed.end(), std::pair(tier, hash));
    if (gone >= stored) continue;
    orphan.removed.emplace_back(tier, hash);
    return true;
  }
  return false;
}

void Applier::Expire(TimePoint now) {
  while (!orphans_.empty() && now - orphans_.front().since >= limits_.max_orphan_age) {
    const size_t blocks = orphans_.front().run.hashes.size();
    counts_.orphan_blocks_dropped += blocks;
    orphan_blocks_ -= blocks;
    orphans_.pop_front();
  }
}

void Applier::Reset() {
  index_.Clear(holder_);
  block_size_ = 0;
  groups_.clear();
  orphans_.clear();
  orphan_blocks_ = 0;
}

}  // namespace warmpath::events
