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

// Whether every block of a prefix must be resident in a group of that kind.
bool CoversPrefixes(const std::optional<std::string>& kind) {
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

void Applier::Apply(const kv::EventBatch& batch, TimePoint now) {
  for (const kv::Event& event : batch.events) {
    if (const auto* stored = std::get_if<kv::BlockStored>(&event)) {
      Apply(*stored, now);
    } else if (const auto* removed = std::get_if<kv::BlockRemoved>(&event)) {
      Apply(*removed);
    } else {
      // The GPU's content of this rank; offloaded copies stay.
      index_.ClearTier(holder_, index::Tier::kGpu);
      orphans_.remove_if([](const Orphan& o) { return o.run.tier == index::Tier::kGpu; });
      orphan_blocks_ = 0;
      for (const Orphan& orphan : orphans_) orphan_blocks_ += orphan.run.hashes.size();
    }
  }
}

void Applier::Apply(const kv::BlockStored& stored, TimePoint now) {
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
  Run run{tier,          group,         stored.parent.value_or(0),
          stored.hashes, stored.tokens, std::move(extras.blocks),
          block_size_};
  if (!stored.parent) {
    StoreRun(run, kv::RootKey(block_size_, extras.lora_name, extras.cache_salt));
  } else if (const auto parent = index_.Find(holder_, group, *stored.parent)) {
    StoreRun(run, *parent);
  } else {
    Hold(std::move(run), now);
    return;
  }
  if (!orphans_.empty()) AdoptChildren();
}

void Applier::Apply(const kv::BlockRemoved& removed) {
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

bool Applier::IsIndexed(uint32_t group) const {
  const auto it = groups_.find(group);
  return it == groups_.end() || it->second;
}

void Applier::StoreRun(const Run& run, kv::BlockKey parent) {
  std::vector<index::BlockAlias> blocks;
  blocks.reserve(run.hashes.size());
  const std::span<const kv::TokenId> tokens(run.tokens);
  kv::BlockKey key = parent;
  for (size_t i = 0; i < run.hashes.size(); ++i) {
    key = kv::ChildKey(key, tokens.subspan(i * run.block_size, run.block_size),
                       run.extras.empty() ? std::string_view() : std::string_view(run.extras[i]));
    blocks.push_back({key, run.hashes[i]});
  }
  index_.Store(holder_, run.tier, run.group, parent, blocks);
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
      const auto parent = index_.Find(holder_, it->run.group, it->run.parent);
      if (!parent) {
        ++it;
        continue;
      }
      StoreRun(it->run, *parent);
      for (const auto& [tier, hash] : it->removed)
        index_.Remove(holder_, tier, it->run.group, std::span(&hash, 1));
      orphan_blocks_ -= it->run.hashes.size();
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
