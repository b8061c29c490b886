#include "index/kv_index.h"

#include "base/mutex.h"
#include "index/core.h"
#include "index/holds.h"
#include "index/matching.h"

namespace warmpath::index {
namespace {

uint64_t Pack(Holder holder) {
  return (static_cast<uint64_t>(holder.endpoint) << 16) | holder.rank;
}

}  // namespace

struct KvIndex::Impl {
  explicit Impl(uint64_t budget_bytes) : core(budget_bytes), holds(budget_bytes / 8) {}

  // Held by everything that changes `core`, or reads it other than through Matcher and counts.
  Mutex mutex;
  Core core;
  Holds holds;
};

KvIndex::KvIndex(uint64_t budget_bytes) : impl_(std::make_unique<Impl>(budget_bytes)) {}
KvIndex::~KvIndex() = default;

std::optional<Parent> KvIndex::FindParent(Holder holder, uint32_t group,
                                          kv::EngineHash hash) const {
  MutexLock lock(impl_->mutex);
  return impl_->core.FindParent(holder, group, hash);
}

std::optional<kv::BlockKey> KvIndex::Find(Holder holder, uint32_t group,
                                          kv::EngineHash hash) const {
  const auto parent = FindParent(holder, group, hash);
  if (!parent) return std::nullopt;
  return parent->key;
}

size_t KvIndex::Store(Holder holder, Tier tier, uint32_t group, const Parent& parent,
                      std::span<const kv::EngineHash> hashes, std::span<const kv::BlockKey> keys) {
  MutexLock lock(impl_->mutex);
  return impl_->core.Store(holder, tier, group, parent, hashes, keys);
}

size_t KvIndex::Store(Holder holder, Tier tier, uint32_t group, kv::BlockKey parent,
                      std::span<const BlockAlias> blocks) {
  std::vector<kv::EngineHash> hashes(blocks.size());
  std::vector<kv::BlockKey> keys(blocks.size());
  for (size_t i = 0; i < blocks.size(); ++i) {
    hashes[i] = blocks[i].hash;
    keys[i] = blocks[i].key;
  }
  return Store(holder, tier, group, Parent{parent, 0}, hashes, keys);
}

size_t KvIndex::StoreKnown(Holder holder, Tier tier, uint32_t group,
                           std::span<const kv::EngineHash> hashes) {
  MutexLock lock(impl_->mutex);
  return impl_->core.StoreKnown(holder, tier, group, hashes);
}

size_t KvIndex::Remove(Holder holder, Tier tier, uint32_t group,
                       std::span<const kv::EngineHash> hashes) {
  MutexLock lock(impl_->mutex);
  return impl_->core.Remove(holder, tier, group, hashes);
}

size_t KvIndex::Clear(Holder holder) {
  MutexLock lock(impl_->mutex);
  return impl_->core.Clear(holder, ~0u);
}

size_t KvIndex::ClearTier(Holder holder, Tier tier) {
  MutexLock lock(impl_->mutex);
  return impl_->core.Clear(holder, 1u << static_cast<uint32_t>(tier));
}

size_t KvIndex::ClearEndpoint(uint32_t endpoint) {
  size_t ended = 0;
  MutexLock lock(impl_->mutex);
  for (const Holder holder : impl_->core.lanes.HoldersOf(endpoint)) {
    ended += impl_->core.Clear(holder, ~0u);
  }
  return ended;
}

void KvIndex::Match(std::span<const kv::BlockKey> keys, std::vector<HolderMatch>& out) const {
  out.clear();
  if (keys.empty()) return;
  Matcher matcher(impl_->core);
  if (!matcher.Match(keys, out)) {
    MutexLock lock(impl_->mutex);
    matcher.Match(keys, out);
  }
  if (impl_->holds.empty()) return;
  thread_local std::vector<Holds::Cover> covers;
  impl_->holds.Match(keys, covers);
  if (!matcher.Expect(keys, covers, out)) {
    MutexLock lock(impl_->mutex);
    matcher.Match(keys, out);
    matcher.Expect(keys, covers, out);
  }
}

std::vector<HolderMatch> KvIndex::Match(std::span<const kv::BlockKey> keys) const {
  std::vector<HolderMatch> matches;
  Match(keys, matches);
  return matches;
}

HoldId KvIndex::Hold(Holder holder, std::span<const kv::BlockKey> keys) {
  return impl_->holds.Add(Pack(holder), keys);
}

void KvIndex::Release(HoldId id) {
  impl_->holds.Release(id);
}

uint64_t KvIndex::ResidentBlocks(Holder holder) const {
  return impl_->core.lanes.EntriesOf(holder);
}

uint64_t KvIndex::EndpointBlocks(uint32_t endpoint) const {
  return impl_->core.lanes.EntriesOfEndpoint(endpoint);
}

std::vector<BlockAlias> KvIndex::Dump(Holder holder, uint32_t group) const {
  MutexLock lock(impl_->mutex);
  return impl_->core.Dump(holder, group);
}

IndexStats KvIndex::stats() const {
  IndexStats stats;
  {
    MutexLock lock(impl_->mutex);
    stats = impl_->core.stats;
    stats.bytes = impl_->core.bytes();
  }
  stats.bytes += impl_->holds.bytes();
  stats.holds = impl_->holds.size();
  stats.budget_bytes = impl_->core.budget;
  return stats;
}

}  // namespace warmpath::index
