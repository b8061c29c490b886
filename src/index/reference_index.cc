#include "index/reference_index.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <map>
#include <set>
#include <unordered_map>

#include "base/check.h"
#include "base/hash.h"
#include "base/mutex.h"
#include "index/holds.h"

namespace warmpath::index {
namespace {

using PackedHolder = uint64_t;

PackedHolder Pack(Holder holder) {
  return (static_cast<uint64_t>(holder.endpoint) << 16) | holder.rank;
}
Holder Unpack(PackedHolder packed) {
  return {static_cast<uint32_t>(packed >> 16), static_cast<uint16_t>(packed & 0xffff)};
}

// One alias of one holder on a node, with its copies per tier. Kept while any count is above 0.
struct Copy {
  PackedHolder holder = 0;
  kv::EngineHash hash = 0;
  uint32_t group = 0;
  uint32_t copies[kTiers] = {};

  bool Before(PackedHolder h, uint32_t g, kv::EngineHash e) const {
    if (holder != h) return holder < h;
    if (group != g) return group < g;
    return hash < e;
  }
  bool Is(PackedHolder h, uint32_t g, kv::EngineHash e) const {
    return holder == h && group == g && hash == e;
  }
  bool Empty() const { return !(copies[0] | copies[1] | copies[2] | copies[3]); }
};

// A block. Resident while `copies` is not empty; otherwise it stands for a parent that resident
// children name (or a pin).
struct Node {
  kv::BlockKey key = 0;
  Node* parent = nullptr;  // set while resident
  uint32_t refs = 0;       // resident children and pins
  uint64_t queued_at = 0;  // its place in the eviction queue, 0 = not in it
  // Written by readers under the shared lock; only its order matters, so relaxed is enough.
  mutable std::atomic<uint64_t> matched_at{0};
  std::vector<Copy> copies;  // ordered by (holder, group, hash)

  bool resident() const { return !copies.empty(); }
};

struct AliasKey {
  kv::EngineHash hash = 0;
  uint32_t group = 0;
  friend bool operator==(const AliasKey&, const AliasKey&) = default;
};

struct AliasHash {
  uint64_t seed = ProcessSeed();
  size_t operator()(const AliasKey& alias) const {
    uint64_t x = (alias.hash ^ seed) + alias.group * 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ULL;
    return x ^ (x >> 32);
  }
};

struct HolderState {
  std::unordered_map<AliasKey, Node*, AliasHash> aliases;
  uint64_t entries = 0;
};

// Accounting: what a value takes in its container, with two bucket slots, a cached hash, a link and
// a malloc header.
constexpr uint64_t kTableOverhead = 16 + 8 + 8 + 16;
constexpr uint64_t kNodeBytes = sizeof(std::pair<const kv::BlockKey, Node>) + kTableOverhead;
constexpr uint64_t kAliasBytes = sizeof(std::pair<const AliasKey, Node*>) + kTableOverhead;
constexpr uint64_t kHolderBytes = sizeof(HolderState) + 256;
constexpr uint64_t kQueueBytes = 64;  // a leaf's place in the eviction queue

uint64_t CopiesBytes(size_t capacity) {
  return capacity == 0 ? 0 : capacity * sizeof(Copy) + 16;
}

}  // namespace

struct ReferenceIndex::Impl {
  explicit Impl(uint64_t budget_bytes)
      : budget(budget_bytes),
        node_budget(budget_bytes - budget_bytes / 8),
        holds(budget_bytes / 8) {}

  const uint64_t budget;
  const uint64_t node_budget;
  Holds holds;

  mutable SharedMutex mutex;
  mutable std::atomic<uint64_t> epoch{1};
  std::unordered_map<kv::BlockKey, Node> nodes GUARDED_BY(mutex);
  std::map<PackedHolder, HolderState> holders GUARDED_BY(mutex);
  // Leaves by the epoch at which they were last matched when queued; a leaf matched since is moved
  // when it comes up.
  std::set<std::pair<uint64_t, Node*>> queue GUARDED_BY(mutex);
  IndexStats stats GUARDED_BY(mutex);

  enum class Reason { kRemoved, kCleared, kBudget };

  uint64_t NextEpoch() const { return epoch.fetch_add(1, std::memory_order_relaxed) + 1; }

  void Enqueue(Node& node) REQUIRES(mutex) {
    node.queued_at = node.matched_at.load(std::memory_order_relaxed);
    queue.emplace(node.queued_at, &node);
    stats.bytes += kQueueBytes;
  }

  void Dequeue(Node& node) REQUIRES(mutex) {
    if (node.queued_at == 0) return;
    queue.erase({node.queued_at, &node});
    node.queued_at = 0;
    stats.bytes -= kQueueBytes;
  }

  Node& NodeOf(kv::BlockKey key) REQUIRES(mutex) {
    const auto [it, inserted] = nodes.try_emplace(key);
    if (inserted) {
      it->second.key = key;
      stats.bytes += kNodeBytes;
    }
    return it->second;
  }

  void Ref(Node& node) REQUIRES(mutex) {
    ++node.refs;
    Dequeue(node);
  }

  void Unref(Node& node) REQUIRES(mutex) {
    if (--node.refs > 0) return;
    if (node.resident()) {
      Enqueue(node);
    } else {
      Free(node);
    }
  }

  void Free(Node& node) REQUIRES(mutex) {
    stats.bytes -= kNodeBytes + CopiesBytes(node.copies.capacity());
    nodes.erase(node.key);
  }

  void Count(Reason reason, uint64_t ended) REQUIRES(mutex) {
    if (reason == Reason::kRemoved) stats.evicted_removed += ended;
    if (reason == Reason::kCleared) stats.evicted_cleared += ended;
    if (reason == Reason::kBudget) stats.evicted_budget += ended;
  }

  // True when `holder` has the node in `tier` through any alias.
  static bool Resident(const Node& node, PackedHolder holder, size_t tier) {
    auto copy = std::partition_point(node.copies.begin(), node.copies.end(),
                                     [&](const Copy& c) { return c.holder < holder; });
    for (; copy != node.copies.end() && copy->holder == holder; ++copy) {
      if (copy->copies[tier] > 0) return true;
    }
    return false;
  }

  static std::vector<Copy>::iterator CopyOf(Node& node, PackedHolder holder, AliasKey alias) {
    return std::lower_bound(
        node.copies.begin(), node.copies.end(), alias,
        [&](const Copy& copy, const AliasKey& a) { return copy.Before(holder, a.group, a.hash); });
  }

  // Ends the copies of one alias in the tiers of `tier_mask`; the node goes when nothing is left on
  // it. When the copy is gone (*copy_gone) the caller erases the alias from the holder's table.
  // Returns residencies ended.
  size_t Drop(Node& node, PackedHolder holder, AliasKey alias, uint32_t tier_mask, Reason reason,
              bool* copy_gone) REQUIRES(mutex) {
    const auto copy = CopyOf(node, holder, alias);
    WP_CHECK(copy != node.copies.end() && copy->Is(holder, alias.group, alias.hash));
    size_t ended = 0;
    for (size_t tier = 0; tier < kTiers; ++tier) {
      if (!(tier_mask & (1u << tier)) || copy->copies[tier] == 0) continue;
      copy->copies[tier] = 0;
      if (!Resident(node, holder, tier)) ++ended;
    }
    HolderState& state = holders.at(holder);
    state.entries -= ended;
    stats.entries -= ended;
    Count(reason, ended);
    *copy_gone = copy->Empty();
    if (*copy_gone) {
      node.copies.erase(copy);
      stats.bytes -= kAliasBytes;
      if (!node.resident()) Vacate(node);
    }
    return ended;
  }

  // The last copy of the node went.
  void Vacate(Node& node) REQUIRES(mutex) {
    --stats.blocks;
    Dequeue(node);
    Node* parent = node.parent;
    node.parent = nullptr;
    if (node.refs == 0) {
      Free(node);
    } else {
      stats.bytes -= CopiesBytes(node.copies.capacity());
      std::vector<Copy>().swap(node.copies);
    }
    if (parent != nullptr) Unref(*parent);
  }

  void DropHolderIfEmpty(std::map<PackedHolder, HolderState>::iterator it) REQUIRES(mutex) {
    if (!it->second.aliases.empty()) return;
    holders.erase(it);
    stats.bytes -= kHolderBytes;
  }

  void EvictNode(Node& node) REQUIRES(mutex) {
    Ref(node);  // keeps it in place while its copies go
    while (node.resident()) {
      const Copy copy = node.copies.back();
      const AliasKey alias{copy.hash, copy.group};
      bool gone = false;
      Drop(node, copy.holder, alias, ~0u, Reason::kBudget, &gone);
      const auto it = holders.find(copy.holder);
      it->second.aliases.erase(alias);
      DropHolderIfEmpty(it);
    }
    Unref(node);
  }

  // Evicts until `bytes` more fit; false when nothing can be evicted any more.
  bool MakeRoom(uint64_t bytes) REQUIRES(mutex) {
    while (stats.bytes + bytes > node_budget) {
      if (queue.empty()) return false;
      Node& node = *queue.begin()->second;
      const uint64_t matched = node.matched_at.load(std::memory_order_relaxed);
      if (matched != node.queued_at) {
        Dequeue(node);
        Enqueue(node);
        continue;
      }
      EvictNode(node);
    }
    return true;
  }

  // One block of a chain below `parent`, which the caller has pinned. Returns the node, or nullptr
  // when the budget has no room.
  Node* StoreOne(PackedHolder packed, size_t tier, uint32_t group, Node& parent,
                 const BlockAlias& block, uint64_t now, size_t* admitted) REQUIRES(mutex) {
    const AliasKey alias{block.hash, group};
    if (const auto holder = holders.find(packed); holder != holders.end()) {
      const auto known = holder->second.aliases.find(alias);
      if (known != holder->second.aliases.end()) {
        Node& node = *known->second;
        if (node.key == block.key) {
          node.matched_at.store(now, std::memory_order_relaxed);
          *admitted += AddCopy(holder->second, node, packed, alias, tier);
          return &node;
        }
        // The engine gave this name to another block, so it no longer has the old one under it.
        bool gone = false;
        Drop(node, packed, alias, ~0u, Reason::kRemoved, &gone);
        holder->second.aliases.erase(known);
        DropHolderIfEmpty(holder);
      }
    }

    Node& node = NodeOf(block.key);
    Ref(node);
    const size_t capacity = node.copies.capacity();
    const size_t wanted =
        node.copies.size() < capacity ? capacity : std::max<size_t>(1, capacity * 2);
    const uint64_t growth = CopiesBytes(wanted) - CopiesBytes(capacity);
    // The queue entry is reserved too: the caller's unpin may need it.
    if (!MakeRoom(growth + kAliasBytes + kHolderBytes + kQueueBytes)) {
      Unref(node);
      return nullptr;
    }
    node.copies.reserve(wanted);
    stats.bytes += CopiesBytes(node.copies.capacity()) - CopiesBytes(capacity) + kAliasBytes;
    if (!node.resident()) {
      ++stats.blocks;
      node.parent = &parent;
      Ref(parent);
    }
    node.matched_at.store(now, std::memory_order_relaxed);
    const auto [holder, new_holder] = holders.try_emplace(packed);
    if (new_holder) stats.bytes += kHolderBytes;
    holder->second.aliases.emplace(alias, &node);
    node.copies.insert(CopyOf(node, packed, alias), Copy{packed, block.hash, group, {}});
    *admitted += AddCopy(holder->second, node, packed, alias, tier);
    Unref(node);
    return &node;
  }

  // Returns 1 when the residency is new.
  size_t AddCopy(HolderState& state, Node& node, PackedHolder packed, AliasKey alias, size_t tier)
      REQUIRES(mutex) {
    const bool before = Resident(node, packed, tier);
    uint32_t& copies = CopyOf(node, packed, alias)->copies[tier];
    if (copies > 0) ++stats.duplicate_stores;
    if (copies < std::numeric_limits<uint32_t>::max()) ++copies;
    if (before) return 0;
    ++state.entries;
    ++stats.entries;
    ++stats.admissions;
    return 1;
  }

  size_t ClearLocked(std::map<PackedHolder, HolderState>::iterator holder, uint32_t tier_mask)
      REQUIRES(mutex) {
    size_t ended = 0;
    auto& aliases = holder->second.aliases;
    for (auto it = aliases.begin(); it != aliases.end();) {
      bool gone = false;
      ended += Drop(*it->second, holder->first, it->first, tier_mask, Reason::kCleared, &gone);
      it = gone ? aliases.erase(it) : std::next(it);
    }
    DropHolderIfEmpty(holder);
    return ended;
  }
};

ReferenceIndex::ReferenceIndex(uint64_t budget_bytes)
    : impl_(std::make_unique<Impl>(budget_bytes)) {}
ReferenceIndex::~ReferenceIndex() = default;

std::optional<kv::BlockKey> ReferenceIndex::Find(Holder holder, uint32_t group,
                                                 kv::EngineHash hash) const {
  ReaderLock lock(impl_->mutex);
  const auto state = impl_->holders.find(Pack(holder));
  if (state == impl_->holders.end()) return std::nullopt;
  const auto alias = state->second.aliases.find({hash, group});
  if (alias == state->second.aliases.end()) return std::nullopt;
  return alias->second->key;
}

size_t ReferenceIndex::Store(Holder holder, Tier tier, uint32_t group, kv::BlockKey parent,
                             std::span<const BlockAlias> blocks) {
  if (blocks.empty()) return 0;
  const uint64_t now = impl_->NextEpoch();
  size_t admitted = 0;
  WriterLock lock(impl_->mutex);
  Node* above = &impl_->NodeOf(parent);
  impl_->Ref(*above);
  for (const BlockAlias& block : blocks) {
    Node* node = impl_->StoreOne(Pack(holder), static_cast<size_t>(tier), group, *above, block, now,
                                 &admitted);
    // Without this block the ones after it could not be reached.
    if (node == nullptr) break;
    impl_->Ref(*node);
    impl_->Unref(*above);
    above = node;
  }
  impl_->Unref(*above);
  impl_->MakeRoom(0);
  return admitted;
}

std::optional<Parent> ReferenceIndex::FindParent(Holder holder, uint32_t group,
                                                 kv::EngineHash hash) const {
  const auto key = Find(holder, group, hash);
  if (!key) return std::nullopt;
  return Parent{*key, 0};
}

size_t ReferenceIndex::Store(Holder holder, Tier tier, uint32_t group, const Parent& parent,
                             std::span<const kv::EngineHash> hashes,
                             std::span<const kv::BlockKey> keys) {
  WP_CHECK(hashes.size() == keys.size());
  std::vector<BlockAlias> blocks(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) blocks[i] = {keys[i], hashes[i]};
  return Store(holder, tier, group, parent.key, blocks);
}

size_t ReferenceIndex::StoreKnown(Holder holder, Tier tier, uint32_t group,
                                  std::span<const kv::EngineHash> hashes) {
  size_t admitted = 0;
  WriterLock lock(impl_->mutex);
  const auto state = impl_->holders.find(Pack(holder));
  if (state == impl_->holders.end()) return 0;
  for (const kv::EngineHash hash : hashes) {
    const AliasKey alias{hash, group};
    const auto known = state->second.aliases.find(alias);
    if (known == state->second.aliases.end()) continue;
    admitted += impl_->AddCopy(state->second, *known->second, Pack(holder), alias,
                               static_cast<size_t>(tier));
  }
  return admitted;
}

size_t ReferenceIndex::Remove(Holder holder, Tier tier, uint32_t group,
                              std::span<const kv::EngineHash> hashes) {
  const PackedHolder packed = Pack(holder);
  const auto t = static_cast<size_t>(tier);
  size_t ended = 0;
  WriterLock lock(impl_->mutex);
  const auto state = impl_->holders.find(packed);
  if (state == impl_->holders.end()) {
    impl_->stats.unknown_removals += hashes.size();
    return 0;
  }
  for (const kv::EngineHash hash : hashes) {
    const AliasKey alias{hash, group};
    const auto known = state->second.aliases.find(alias);
    if (known == state->second.aliases.end()) {
      ++impl_->stats.unknown_removals;
      continue;
    }
    Node& node = *known->second;
    uint32_t& copies = Impl::CopyOf(node, packed, alias)->copies[t];
    if (copies == 0) {
      ++impl_->stats.unknown_removals;
    } else if (copies > 1) {
      --copies;
    } else {
      bool gone = false;
      ended += impl_->Drop(node, packed, alias, 1u << t, Impl::Reason::kRemoved, &gone);
      if (gone) state->second.aliases.erase(known);
    }
  }
  impl_->DropHolderIfEmpty(state);
  return ended;
}

size_t ReferenceIndex::Clear(Holder holder) {
  WriterLock lock(impl_->mutex);
  const auto state = impl_->holders.find(Pack(holder));
  return state == impl_->holders.end() ? 0 : impl_->ClearLocked(state, ~0u);
}

size_t ReferenceIndex::ClearTier(Holder holder, Tier tier) {
  WriterLock lock(impl_->mutex);
  const auto state = impl_->holders.find(Pack(holder));
  return state == impl_->holders.end() ? 0
                                       : impl_->ClearLocked(state, 1u << static_cast<size_t>(tier));
}

size_t ReferenceIndex::ClearEndpoint(uint32_t endpoint) {
  size_t ended = 0;
  WriterLock lock(impl_->mutex);
  auto state = impl_->holders.lower_bound(Pack({endpoint, 0}));
  while (state != impl_->holders.end() && Unpack(state->first).endpoint == endpoint) {
    const auto next = std::next(state);
    ended += impl_->ClearLocked(state, ~0u);
    state = next;
  }
  return ended;
}

std::vector<HolderMatch> ReferenceIndex::Match(std::span<const kv::BlockKey> keys) const {
  // A holder on its way along the chain.
  struct Walk {
    PackedHolder holder = 0;
    uint32_t held = 0;  // blocks covered by a hold
    bool resident = true, gpu = true, expected = true;
    HolderMatch match;
  };
  std::vector<Walk> walks;
  std::vector<Holds::Cover> covers;
  impl_->holds.Match(keys, covers);
  for (const Holds::Cover& cover : covers) {
    Walk& walk = walks.emplace_back();
    walk.holder = cover.packed_holder;
    walk.held = cover.blocks;
    walk.match.expected_blocks = cover.blocks;
  }
  const size_t held_holders = walks.size();

  const uint64_t now = impl_->NextEpoch();
  ReaderLock lock(impl_->mutex);
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto it = impl_->nodes.find(keys[i]);
    static const std::vector<Copy> kNone;
    const std::vector<Copy>& copies = it == impl_->nodes.end() ? kNone : it->second.copies;
    if (!copies.empty()) it->second.matched_at.store(now, std::memory_order_relaxed);
    if (i == 0) {
      for (const Copy& copy : copies) {
        if (!walks.empty() && walks.back().holder == copy.holder && walks.size() > held_holders) {
          continue;
        }
        const auto held = std::find_if(walks.begin(), walks.begin() + held_holders,
                                       [&](const Walk& w) { return w.holder == copy.holder; });
        if (held == walks.begin() + held_holders) walks.emplace_back().holder = copy.holder;
      }
      std::sort(walks.begin(), walks.end(),
                [](const Walk& a, const Walk& b) { return a.holder < b.holder; });
    }
    bool any = false;
    auto copy = copies.begin();  // walks and copies are both ordered by holder
    for (Walk& walk : walks) {
      if (!walk.expected) continue;
      while (copy != copies.end() && copy->holder < walk.holder) ++copy;
      bool resident = false, gpu = false;
      for (; copy != copies.end() && copy->holder == walk.holder; ++copy) {
        resident = true;
        gpu |= copy->copies[static_cast<size_t>(Tier::kGpu)] > 0;
      }
      walk.resident &= resident;
      walk.gpu &= gpu;
      walk.expected = resident || i < walk.held;
      const auto reached = static_cast<uint32_t>(i + 1);
      if (walk.resident) walk.match.blocks = reached;
      if (walk.gpu) walk.match.gpu_blocks = reached;
      if (walk.expected) walk.match.expected_blocks = std::max(walk.match.expected_blocks, reached);
      any |= walk.expected;
    }
    if (!any) break;
  }
  std::vector<HolderMatch> matches;
  matches.reserve(walks.size());
  for (Walk& walk : walks) {
    walk.match.holder = Unpack(walk.holder);
    if (walk.match.expected_blocks > 0) matches.push_back(walk.match);
  }
  return matches;
}

void ReferenceIndex::Match(std::span<const kv::BlockKey> keys,
                           std::vector<HolderMatch>& out) const {
  out = Match(keys);
}

HoldId ReferenceIndex::Hold(Holder holder, std::span<const kv::BlockKey> keys) {
  return impl_->holds.Add(Pack(holder), keys);
}

void ReferenceIndex::Release(HoldId id) {
  impl_->holds.Release(id);
}

uint64_t ReferenceIndex::ResidentBlocks(Holder holder) const {
  ReaderLock lock(impl_->mutex);
  const auto state = impl_->holders.find(Pack(holder));
  return state == impl_->holders.end() ? 0 : state->second.entries;
}

uint64_t ReferenceIndex::EndpointBlocks(uint32_t endpoint) const {
  uint64_t blocks = 0;
  ReaderLock lock(impl_->mutex);
  for (auto state = impl_->holders.lower_bound(Pack({endpoint, 0}));
       state != impl_->holders.end() && Unpack(state->first).endpoint == endpoint; ++state) {
    blocks += state->second.entries;
  }
  return blocks;
}

std::vector<BlockAlias> ReferenceIndex::Dump(Holder holder, uint32_t group) const {
  std::vector<BlockAlias> blocks;
  ReaderLock lock(impl_->mutex);
  const auto state = impl_->holders.find(Pack(holder));
  if (state == impl_->holders.end()) return blocks;
  for (const auto& [alias, node] : state->second.aliases) {
    if (alias.group == group) blocks.push_back({node->key, alias.hash});
  }
  return blocks;
}

IndexStats ReferenceIndex::stats() const {
  ReaderLock lock(impl_->mutex);
  IndexStats stats = impl_->stats;
  stats.bytes += impl_->holds.bytes();
  stats.holds = impl_->holds.size();
  stats.budget_bytes = impl_->budget;
  return stats;
}

}  // namespace warmpath::index
