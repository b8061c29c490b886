#include <algorithm>

#include "base/check.h"
#include "index/core.h"

namespace warmpath::index {
namespace {

constexpr uint32_t kSweepEffort = 64;
// Of the call that retires lanes: small indexes are clean when it returns.
constexpr uint32_t kClearEffort = 4096;
// How many names are looked up in the table at a time, fetched ahead together: a fetch that misses
// the TLB waits for the walk, and walks overlap where nothing stands between them.
constexpr uint32_t kAhead = 16;
constexpr uint32_t kColumnAhead = 96;  // names

// A bit per block of a stretch.
class Blocks {
 public:
  Blocks(uint32_t from, uint32_t to) : from_(from), to_(to), bits_((to - from + 63) / 64) {}
  void Mark(uint32_t from, uint32_t to) {
    from = std::max(from, from_);
    to = std::min(to, to_);
    for (uint32_t i = from; i < to; ++i) {
      bits_[(i - from_) / 64] |= uint64_t{1} << ((i - from_) % 64);
    }
  }
  uint32_t Unmarked() const {
    uint32_t marked = 0;
    for (const uint64_t word : bits_) marked += static_cast<uint32_t>(__builtin_popcountll(word));
    return to_ - from_ - marked;
  }

 private:
  const uint32_t from_, to_;
  std::vector<uint64_t> bits_;
};

}  // namespace

uint64_t Core::CopiesKey(LaneId lane, Place place) {
  return uint64_t{lane} << (kRunBits + kOffsetBits) | uint64_t{place.run} << kOffsetBits |
         place.offset;
}

uint32_t Core::Bare(const Run& run, uint32_t from, uint32_t to) const {
  if (run.full > 0 && run.base <= from && to <= run.end) return 0;
  if (SingleStrand(run)) {
    uint32_t bare = 0;
    coverage.Gaps(run, from, to, [&](uint32_t begin, uint32_t end) { bare += end - begin; });
    return bare;
  }
  Blocks held(from, to);
  for (RunId id = run.run; id != 0; id = runs[id].next_strand) {
    coverage.ForAll(runs[id], [&](LaneId, uint32_t begin, uint32_t end) { held.Mark(begin, end); });
  }
  return held.Unmarked();
}

uint32_t Core::Alone(LaneId id, RunId strand_id, uint32_t from, uint32_t to) {
  const Lane& lane = lanes[id];
  const Run& run = RunOf(runs[strand_id]);
  if (lane.holder == nullptr) return to - from;
  if (SingleStrand(run) && lane.holder->LanesIn(lane.tier) == 1) return to - from;
  Blocks held(from, to);
  for (RunId at = run.run; at != 0; at = runs[at].next_strand) {
    for (const HolderState::Named& named : lane.holder->lanes) {
      if (named.tier != lane.tier || (named.lane == id && at == strand_id)) continue;
      coverage.ForLane(runs[at], named.lane,
                       [&](uint32_t begin, uint32_t end) { held.Mark(begin, end); });
    }
  }
  return held.Unmarked();
}

void Core::CountEnded(LaneId id, size_t ended, Ended reason) {
  const Lane& lane = lanes[id];
  if (lane.holder == nullptr) return;  // counted when it was cleared
  auto& entries = lane.holder->entries[static_cast<size_t>(lane.tier)];
  entries = entries - ended;
  stats.entries -= ended;
  if (reason == Ended::kRemoved) stats.evicted_removed += ended;
  if (reason == Ended::kCleared) stats.evicted_cleared += ended;
  if (reason == Ended::kBudget) stats.evicted_budget += ended;
}

void Core::Unname(RunId strand_id, uint32_t from, uint32_t to) {
  const Run& strand = runs[strand_id];
  const uint64_t* column = arena.Words(strand.hashes);
  const uint32_t base = strand.base;
  // From the end, as engines evict.
  PlaceTable::Seat seats[2][kAhead];
  uint64_t mixed[kAhead];
  const auto fetch = [&](uint32_t end) {
    PlaceTable::Seat* into = seats[(to - end) / kAhead % 2];
    const uint32_t count = std::min(kAhead, end - from);
    const uint64_t* last = column + (end - 1 - base);
#pragma clang loop vectorize(disable)
    for (uint32_t i = 0; i < count; ++i) mixed[i] = hashes.Mix(Load(last - i));
    for (uint32_t i = 0; i < count; ++i) into[i] = hashes.Fetch(mixed[i]);
  };
  if (from < to) fetch(to);
  for (uint32_t end = to; end > from;) {
    const PlaceTable::Seat* of = seats[(to - end) / kAhead % 2];
    const uint32_t count = std::min(kAhead, end - from);
    if (end - from > kAhead) fetch(end - kAhead);
    for (uint32_t i = 0; i < count; ++i) PlaceTable::FetchPassed(of[i]);
    Place place{strand_id, end - 1 - base};
    for (uint32_t i = 0; i < count; ++i, --place.offset) {
      if (hashes.EraseAlone(of[i], place)) continue;
      WP_CHECK(hashes.Erase(hashes.Mix(Load(column + place.offset)), place));
    }
    end -= count;
  }
}

void Core::ForgetExtraCopies(LaneId lane, RunId strand, uint32_t from, uint32_t to) {
  if (!runs[strand].Has(Run::kDuplicates) || extra_copies_.empty()) return;
  for (uint32_t block = from; block < to; ++block) {
    extra_copies_.erase(CopiesKey(lane, PlaceIn(strand, block)));
  }
}

size_t Core::Uncover(LaneId id, RunId strand_id, uint32_t from, uint32_t to, Ended reason) {
  Run& strand = runs[strand_id];
  Run& run = RunOf(strand);
  if (coverage.Crowded(strand)) {
    // There is no room to remember what stays: forget the whole stretch.
    coverage.ForLane(strand, id, [&](uint32_t begin, uint32_t end) {
      if (begin <= from && to <= end) from = begin, to = end;
    });
  }
  {
    const Changing changing(run);
    coverage.Remove(strand, id, from, to);
  }
  const size_t ended = Alone(id, strand_id, from, to);
  lanes[id].blocks -= to - from;
  CountEnded(id, ended, reason);
  ForgetExtraCopies(id, strand_id, from, to);
  coverage.Gaps(strand, from, to, [&](uint32_t begin, uint32_t end) {
    Unname(strand_id, begin, end);
    stats.blocks -= Bare(run, begin, end);
  });
  return ended;
}

void Core::DropAlias(HolderState& holder, uint32_t group, Spot spot) {
  const std::vector<HolderState::Named> named = holder.lanes;
  const RunId run = runs[spot.strand].run;
  for (const HolderState::Named& lane : named) {
    if (lane.group != group || !coverage.Covers(runs[spot.strand], lane.lane, spot.block)) continue;
    Uncover(lane.lane, spot.strand, spot.block, spot.block + 1, Ended::kRemoved);
    lanes.DropIfEmpty(lane.lane);
  }
  Trim(run);
}

// An engine that announces a few removals at a time goes on with what is before them: that is asked
// for now, at a distance, as many names as were removed.
void Core::FetchBefore(const Run& strand, uint32_t block, size_t names) const {
  const uint64_t* column = arena.Words(strand.hashes);
  const uint32_t left = block - strand.base;
  __builtin_prefetch(column + (left > 2 * kAhead ? left - 2 * kAhead : 0));
  for (uint32_t i = kAhead / 2; i < kAhead / 2 + names && i < left; ++i) {
    hashes.Prefetch(hashes.Mix(Load(column + (left - 1 - i))));
  }
}

// Of a run that nobody else holds: who holds all of it goes on holding all of it, and nothing is
// left to trim. False when that is not how things are.
bool Core::RemoveTail(LaneId id, RunId run_id, uint32_t from, uint32_t to) {
  Run& run = runs[run_id];
  const Lane& lane = lanes[id];
  if (to != run.end || run.run != run_id || !SingleStrand(run) || run.Has(Run::kPinned) ||
      from < (run.children > 0 ? run.max_child + 1u : 1u) || lane.holder->LanesIn(lane.tier) != 1 ||
      !coverage.IsSole(run, id)) {
    return false;
  }
  Unname(run_id, from, to);
  {
    const Changing changing(run);
    run.end = static_cast<uint16_t>(from);
    Shrink(run);
  }
  lanes[id].blocks -= to - from;
  stats.blocks -= to - from;
  CountEnded(id, to - from, Ended::kRemoved);
  return true;
}

size_t Core::RemoveCopies(LaneId lane, Spot spot, std::span<const kv::EngineHash> names,
                          size_t* taken) {
  const Run& strand = runs[spot.strand];
  if (strand.Has(Run::kDuplicates)) {
    *taken = 1;
    const auto copies = extra_copies_.find(CopiesKey(lane, PlaceIn(spot.strand, spot.block)));
    if (copies != extra_copies_.end()) {
      if (--copies->second == 0) extra_copies_.erase(copies);
      return 0;
    }
    return Uncover(lane, spot.strand, spot.block, spot.block + 1, Ended::kRemoved);
  }
  // Its neighbours usually follow, the last one first.
  uint32_t begin = spot.block, end = spot.block + 1;
  const uint64_t* column = arena.Words(strand.hashes);
  const uint32_t first = spot.block - strand.base;
  const auto before =
      static_cast<uint32_t>(std::min<size_t>({names.size() - 1, first, kColumnAhead}));
  for (uint32_t i = 0; i < before; i += Arena::kUnitWords)
    __builtin_prefetch(column + first - 1 - i);
  coverage.ForLane(strand, lane, [&](uint32_t from, uint32_t to) {
    if (spot.block < from || spot.block >= to) return;
    const uint64_t* const at = column + first;
    const size_t most_before = std::min<size_t>(names.size(), spot.block - from + 1);
    const size_t most_behind = std::min<size_t>(names.size(), to - spot.block);
    size_t same = 1;
    while (same < most_before && Load(at - same) == names[same]) ++same;
    begin = spot.block + 1 - static_cast<uint32_t>(same);
    if (same > 1) return;
    while (same < most_behind && Load(at + same) == names[same]) ++same;
    end = spot.block + static_cast<uint32_t>(same);
  });
  *taken = end - begin;
  if (*taken == names.size() && *taken <= kAhead / 2) FetchBefore(strand, begin, *taken);
  if (RemoveTail(lane, spot.strand, begin, end)) return *taken;
  return Uncover(lane, spot.strand, begin, end, Ended::kRemoved);
}

size_t Core::Remove(Holder holder, Tier tier, uint32_t group,
                    std::span<const kv::EngineHash> names) {
  Sweep(kSweepEffort);
  HolderState* state = lanes.Find(holder);
  if (state == nullptr) {
    stats.unknown_removals += names.size();
    return 0;
  }
  const LaneId lane = lanes.FindLane(*state, tier, group);
  if (lane != Lanes::kNone) ++lanes[lane].blocks;
  for (size_t i = 0; i < names.size() && i < kAhead; ++i) hashes.Prefetch(hashes.Mix(names[i]));
  size_t ended = 0;
  for (size_t i = 0; i < names.size();) {
    const Spot spot = FindAlias(*state, group, names[i]);
    if (spot.strand == 0 || lane == Lanes::kNone ||
        (state->lanes.size() > 1 && !coverage.Covers(runs[spot.strand], lane, spot.block))) {
      ++stats.unknown_removals;
      ++i;
      continue;
    }
    const RunId run = runs[spot.strand].run;
    size_t taken = 0;
    ended += RemoveCopies(lane, spot, names.subspan(i), &taken);
    i += taken;
    Trim(run);
  }
  if (lane != Lanes::kNone) {
    --lanes[lane].blocks;
    lanes.DropIfEmpty(lane);
  }
  MakeRoom(0);  // holes take memory, too
  return ended;
}

size_t Core::Clear(Holder holder, uint32_t tiers) {
  HolderState* state = lanes.Find(holder);
  if (state == nullptr) return 0;
  size_t ended = 0;
  for (size_t tier = 0; tier < kTiers; ++tier) {
    if ((tiers >> tier & 1) == 0) continue;
    ended += state->entries[tier];
    state->entries[tier] = 0;
  }
  stats.entries -= ended;
  stats.evicted_cleared += ended;
  const std::vector<HolderState::Named> named = state->lanes;
  for (const HolderState::Named& lane : named) {
    if ((tiers >> static_cast<size_t>(lane.tier) & 1) != 0) lanes.Retire(lane.lane);
  }
  Sweep(kClearEffort);
  return ended;
}

uint32_t Core::SweepRun(RunId id) {
  Run& strand = runs[id];
  if (!strand.Has(Run::kLive) || coverage.Empty(strand)) return 0;
  thread_local std::vector<Interval> gone;
  gone.clear();
  coverage.ForAll(strand, [&](LaneId lane, uint32_t from, uint32_t to) {
    if (!lanes.Live(lane)) gone.push_back({lane, from, to});
  });
  if (gone.empty()) return 0;
  uint32_t blocks = 0;
  for (const Interval& interval : gone) {
    // What has been taken already, where coverage was too crowded to keep parts, is gone.
    if (!coverage.Covers(strand, interval.lane, interval.from)) continue;
    Uncover(interval.lane, id, interval.from, interval.to, Ended::kCleared);
    lanes.DropIfEmpty(interval.lane);
    blocks += interval.to - interval.from;
  }
  Trim(strand.run);
  return blocks;
}

void Core::Sweep(uint32_t effort) {
  while (effort > 0 && lanes.retired() > 0) {
    if (++sweep_at_ >= runs.top()) sweep_at_ = 1;
    const uint32_t spent = 1 + SweepRun(sweep_at_) / 8;
    effort -= std::min(effort, spent);
  }
}

}  // namespace warmpath::index
