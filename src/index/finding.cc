#include <algorithm>
#include <bit>

#include "base/check.h"
#include "index/core.h"

namespace warmpath::index {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
// A block takes at least 24 bytes, a run at least this much with its arrays.
constexpr uint64_t kMinRunBytes = 256;
// An entry of the table of extra copies.
constexpr uint64_t kExtraCopyBytes = 48;

uint32_t RunsFor(uint64_t budget) {
  return static_cast<uint32_t>(
      std::clamp<uint64_t>(budget / kMinRunBytes, 64, (uint64_t{1} << kRunBits) - 1));
}
uint32_t ShardsFor(uint64_t budget) {
  return static_cast<uint32_t>(std::bit_floor(std::clamp<uint64_t>(budget / (kMiB / 2), 1, 4096)));
}

// Where a parent lies, as a hint to the caller: run, offset and a part of the run's generation.
uint64_t HintOf(Place place, uint32_t generation) {
  return uint64_t{place.run} << (64 - kRunBits) |
         uint64_t{place.offset} << (64 - kRunBits - kOffsetBits) | (generation & 0xffffff);
}

}  // namespace

AbsentParents::Parent* AbsentParents::Search(kv::BlockKey key) {
  const auto it = parents_.find(key);
  return it == parents_.end() ? nullptr : &it->second;
}

void AbsentParents::Add(kv::BlockKey key) {
  ++parents_[key].runs;
  const uint64_t bit = Hash(key);
  if (counts_[bit]++ == 0) {
    Save(&bits_[bit / 64], Load(&bits_[bit / 64]) | uint64_t{1} << (bit % 64));
  }
}

void AbsentParents::Remove(kv::BlockKey key) {
  const auto it = parents_.find(key);
  if (--it->second.runs == 0) parents_.erase(it);
  const uint64_t bit = Hash(key);
  if (--counts_[bit] == 0) {
    Save(&bits_[bit / 64], Load(&bits_[bit / 64]) & ~(uint64_t{1} << (bit % 64)));
  }
}

// The arenas have room beyond the budget for what an operation takes before it makes room.
Core::Core(uint64_t budget_bytes)
    : budget(budget_bytes),
      arena(budget_bytes + budget_bytes / 4 + 64 * kMiB, Arena::Pages::kHuge),
      tables(budget_bytes + 64 * kMiB, Arena::Pages::kHuge),
      runs(RunsFor(budget_bytes)),
      hashes(tables, ShardsFor(budget_bytes)),
      heads(tables, std::max(1u, ShardsFor(budget_bytes) / 16)),
      coverage(arena),
      run_budget_(budget_bytes - budget_bytes / 8) {
  tick = 1;
  for (uint32_t i = 0; i < kQueues; ++i) ends_[i] = {runs.max_runs() + i, runs.max_runs() + i};
}

uint64_t Core::bytes() const {
  return arena.used_bytes() + tables.used_bytes() + runs.used_bytes() + lanes.used_bytes() +
         absent.used_bytes() + extra_copies_.size() * kExtraCopyBytes;
}

RunId Core::FindHead(kv::BlockKey key) const {
  RunId found = 0;
  heads.Find(heads.Mix(key), [&](Place place) {
    if (runs[place.run].head != key) return false;
    found = place.run;
    return true;
  });
  return found;
}

Place Core::Locate(const Parent& parent) {
  if (parent.at == Parent::kRoot) return {};
  if (parent.at != 0) {
    const Place place{
        static_cast<RunId>(parent.at >> (64 - kRunBits)),
        static_cast<uint32_t>(parent.at >> (64 - kRunBits - kOffsetBits)) & (kMaxRunBlocks - 1)};
    if (place.run < runs.top()) {
      const Run& run = runs[place.run];
      if ((run.generation & 0xffffff) == (parent.at & 0xffffff) && place.offset < run.end &&
          run.keys != 0 && KeyAt(run, place.offset) == parent.key) {
        return place;
      }
    }
  }
  if (const RunId run = FindHead(parent.key); run != 0) return {run, 0};
  if (const AbsentParents::Parent* known = absent.Find(parent.key);
      known != nullptr && !known->stored_since) {
    return {};
  }
  for (RunId id = 1; id < runs.top(); ++id) {
    const Run& run = runs[id];
    if (run.keys == 0) continue;
    const uint64_t* keys = arena.Words(run.keys);
    for (uint32_t i = 0; i < run.end; ++i) {
      if (Load(keys + i) == parent.key) return {id, i};
    }
  }
  return {};
}

bool Core::CoversAlias(const HolderState& holder, uint32_t group, Spot spot) const {
  const Run& strand = runs[spot.strand];
  return std::any_of(holder.lanes.begin(), holder.lanes.end(), [&](const auto& named) {
    return named.group == group && coverage.Covers(strand, named.lane, spot.block);
  });
}

Core::Spot Core::FindAlias(const HolderState& holder, uint32_t group, kv::EngineHash hash) const {
  Spot found;
  hashes.Find(hashes.Mix(hash), [&](Place place) {
    const Run& strand = runs[place.run];
    const Spot spot{place.run, strand.base + place.offset};
    if (HashAt(strand, spot.block) != hash || !CoversAlias(holder, group, spot)) return false;
    found = spot;
    return true;
  });
  return found;
}

std::optional<Parent> Core::FindParent(Holder holder, uint32_t group, kv::EngineHash hash) {
  const HolderState* state = lanes.Find(holder);
  if (state == nullptr) return std::nullopt;
  const Spot spot = FindAlias(*state, group, hash);
  if (spot.strand == 0) return std::nullopt;
  const RunId id = runs[spot.strand].run;
  return Parent{KeyAt(runs[id], spot.block), HintOf({id, spot.block}, runs[id].generation)};
}

std::vector<BlockAlias> Core::Dump(Holder holder, uint32_t group) {
  std::vector<BlockAlias> blocks;
  const HolderState* state = lanes.Find(holder);
  if (state == nullptr) return blocks;
  std::vector<bool> named;
  for (RunId id = 1; id < runs.top(); ++id) {
    const Run& strand = runs[id];
    if (!strand.Has(Run::kLive) || coverage.Empty(strand)) continue;
    named.assign(strand.end - strand.base, false);
    for (const HolderState::Named& lane : state->lanes) {
      if (lane.group != group) continue;
      coverage.ForLane(strand, lane.lane, [&](uint32_t from, uint32_t to) {
        std::fill(named.begin() + (from - strand.base), named.begin() + (to - strand.base), true);
      });
    }
    for (uint32_t i = 0; i < named.size(); ++i) {
      if (!named[i]) continue;
      blocks.push_back({KeyAt(RunOf(strand), strand.base + i), HashAt(strand, strand.base + i)});
    }
  }
  return blocks;
}

}  // namespace warmpath::index
