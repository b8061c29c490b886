#include <algorithm>

#include "base/check.h"
#include "index/core.h"

namespace warmpath::index {
namespace {

// New blocks for which room is made at a time.
constexpr uint32_t kChunk = 1024;
// Of a block: key, hash, a slot at the lowest load. Of a run: its slot and what rounding takes.
constexpr uint64_t kBlockBytes = 8 + 8 + 16;
constexpr uint64_t kRunBytes = sizeof(Run) + 4 * Arena::kUnitBytes + 128;
constexpr uint32_t kMaxStrands = 1024;
constexpr uint32_t kAhead = 16;  // how far insertions are prefetched
constexpr uint32_t kSweepEffort = 64;

uint32_t UnitsFor(uint32_t words) {
  return (words + Arena::kUnitWords - 1) / Arena::kUnitWords;
}

}  // namespace

struct Core::Storing {
  HolderState& holder;
  LaneId lane = 0;
  uint32_t group = 0;
  kv::BlockKey parent_key = 0;
  std::span<const kv::EngineHash> hashes;
  std::span<const kv::BlockKey> keys;
  size_t done = 0;
  size_t admitted = 0;
};

size_t Core::Store(Holder holder, Tier tier, uint32_t group, const Parent& parent,
                   std::span<const kv::EngineHash> names, std::span<const kv::BlockKey> keys) {
  WP_CHECK(names.size() == keys.size());
  if (keys.empty()) return 0;
  Sweep(kSweepEffort);
  const LaneId lane = lanes.Obtain(holder, tier, group);
  if (lane == Lanes::kNone) return 0;
  ++lanes[lane].blocks;  // keeps it, and its holder
  Storing storing{*lanes[lane].holder, lane, group, parent.key, names, keys};
  Place at = Locate(parent);
  if (at.run != 0) Pin(at.run);
  while (storing.done < keys.size()) {
    const kv::BlockKey key = keys[storing.done];
    Place next;
    if (at.run != 0 && at.offset + 1 < runs[at.run].end &&
        KeyAt(runs[at.run], at.offset + 1) == key) {
      next = {at.run, at.offset + 1};
    } else if (const RunId child = FindHead(key); child != 0) {
      next = {child, 0};
    }
    uint32_t stored = 0;
    if (next.run == 0) {
      stored = Append(storing, &at);
    } else {
      if (next.run != at.run) {
        Pin(next.run);
        if (at.run != 0) Unpin(at.run);
      }
      const Run& run = runs[next.run];
      const auto rest = std::min<size_t>(keys.size() - storing.done, run.end - next.offset);
      // Equal keys mean equal keys before them.
      uint32_t count = static_cast<uint32_t>(rest);
      if (KeyAt(run, next.offset + count - 1) != keys[storing.done + count - 1]) {
        uint32_t low = 1;
        for (uint32_t high = count - 1; low < high;) {
          const uint32_t middle = (low + high + 1) / 2;
          if (KeyAt(run, next.offset + middle - 1) == keys[storing.done + middle - 1]) {
            low = middle;
          } else {
            high = middle - 1;
          }
        }
        count = low;
      }
      stored = Join(storing, next.run, next.offset, count);
      at = {next.run, next.offset + stored - (stored > 0 ? 1 : 0)};
      if (stored < count) {
        storing.done += stored;
        break;
      }
    }
    if (stored == 0) break;  // without this block the ones after it could not be reached
    storing.done += stored;
  }
  if (at.run != 0) Unpin(at.run);
  DropRenamed(storing);
  --lanes[lane].blocks;
  lanes.DropIfEmpty(lane);
  MakeRoom(0);
  AdvanceTick(storing.done);
  return storing.admitted;
}

// What did not fit is not stored, but the names it was announced with mean nothing else any more.
void Core::DropRenamed(Storing& storing) {
  for (size_t i = storing.done; i < storing.hashes.size(); ++i) {
    const Spot spot = FindAlias(storing.holder, storing.group, storing.hashes[i]);
    if (spot.strand == 0 || KeyAt(RunOf(runs[spot.strand]), spot.block) == storing.keys[i])
      continue;
    DropAlias(storing.holder, storing.group, spot);
  }
}

bool Core::Reserve(Run& strand, uint32_t blocks) {
  Changing changing(RunOf(strand));
  const auto grow = [&](Arena::Ref& ref, uint16_t& units, uint32_t used) {
    uint32_t wanted = UnitsFor(blocks);
    if (wanted <= units) return true;
    if (units > 0) wanted = std::min(std::max(wanted, units + units / 8u), UnitsFor(kMaxRunBlocks));
    if (units > 0 && arena.Extend(ref, units, wanted)) {
      units = static_cast<uint16_t>(wanted);
      return true;
    }
    const Arena::Ref moved = arena.Allocate(wanted);
    if (moved == 0) return false;
    for (uint32_t i = 0; i < used; ++i) Save(arena.Words(moved) + i, Load(arena.Words(ref) + i));
    if (units > 0) arena.Free(ref, units);
    ref = moved;
    units = static_cast<uint16_t>(wanted);
    return true;
  };
  const uint32_t used = strand.end - strand.base;
  if (!grow(strand.hashes, strand.hash_units, used)) return false;
  if (strand.run != runs.IdOf(strand)) return true;
  Arena::Ref keys = strand.keys;
  const bool grown = grow(keys, strand.key_units, used);
  strand.keys = keys;
  return grown;
}

RunId Core::BeginRun(Storing& storing, Place at, uint32_t blocks) {
  const RunId id = runs.Allocate();
  if (id == 0) return 0;
  Run& run = runs[id];
  const kv::BlockKey head = storing.keys[storing.done];
  run.run = id;
  run.tick = tick;
  if (!Reserve(run, blocks) || !heads.Insert(heads.Mix(head), {id, 0})) {
    if (run.hash_units > 0) arena.Free(run.hashes, run.hash_units);
    if (run.key_units > 0) arena.Free(run.keys, run.key_units);
    runs.Free(id);
    return 0;
  }
  run.head = head;
  run.parent_key = storing.done == 0 ? storing.parent_key : storing.keys[storing.done - 1];
  run.Set(Run::kPinned);
  if (at.run == 0) {
    absent.Add(run.parent_key);
    return id;
  }
  Run& parent = runs[at.run];
  run.Set(Run::kHasParent);
  run.parent = at.run;
  run.parent_offset = static_cast<uint16_t>(at.offset);
  ++parent.children;
  parent.max_child = std::max(parent.max_child, run.parent_offset);
  parent.branch = static_cast<uint16_t>(at.offset + 1);
  if (parent.hint == 0) parent.hint = id;
  return id;
}

uint32_t Core::Append(Storing& storing, Place* at) {
  uint32_t count =
      static_cast<uint32_t>(std::min<size_t>(storing.keys.size() - storing.done, kChunk));
  while (!MakeRoom(count * kBlockBytes + kRunBytes)) {
    if ((count /= 2) == 0) return 0;
  }
  RunId id = 0;
  if (at->run != 0) {
    const Run& run = runs[at->run];
    if (at->offset + 1 == run.end && run.end < kMaxRunBlocks && SingleStrand(run) &&
        coverage.IsSole(run, storing.lane)) {
      id = at->run;
      count = std::min(count, kMaxRunBlocks - run.end);
    }
  }
  // A run whose parent is among these goes on behind it.
  for (uint32_t i = 0; i < count; ++i) {
    AbsentParents::Parent* parent = absent.Find(storing.keys[storing.done + i]);
    if (parent == nullptr) continue;
    parent->stored_since = true;
    count = i + 1;
  }
  const bool begins = id == 0;
  if (begins && (id = BeginRun(storing, *at, count)) == 0) return 0;
  Run& run = runs[id];
  const uint32_t from = run.end;
  if (!begins && !Reserve(run, from + count)) return 0;
  uint64_t* keys = arena.Words(run.keys) + from;
  for (uint32_t i = 0; i < count; ++i) Save(keys + i, storing.keys[storing.done + i]);
  count = Name(storing, id, from, storing.done, count);
  if (count > 0) Commit(storing, id, from, from + count);
  run.tick = tick;
  if (begins) {
    if (at->run != 0) Unpin(at->run);
    at->run = id;
  }
  at->offset = run.end == 0 ? 0 : run.end - 1u;
  return count;
}

// True when the name may be given to the block; false: first what was named before it has to be
// committed.
bool Core::NameTwin(Storing& storing, RunId id, uint32_t first, uint32_t block,
                    kv::EngineHash hash) {
  for (;;) {
    Spot taken;
    bool stop = false;
    hashes.Find(hashes.Mix(hash), [&](Place place) {
      Run& other = runs[place.run];
      const Spot spot{place.run, other.base + place.offset};
      if (HashAt(other, spot.block) != hash) return false;
      if (other.run == runs[id].run && spot.block == block) return stop = true;
      if (place.run == id && spot.block >= first && spot.block < block) return stop = true;
      if (CoversAlias(storing.holder, storing.group, spot)) {
        if (block > first) return stop = true;
        taken = spot;
        return true;
      }
      other.Set(Run::kTwins);
      runs[id].Set(Run::kTwins);
      return false;
    });
    if (stop) return false;
    if (taken.strand == 0) return true;
    // The engine gave this name to another block, so it no longer has the old one under it.
    DropAlias(storing.holder, storing.group, taken);
  }
}

uint32_t Core::Name(Storing& storing, RunId id, uint32_t block, size_t index, uint32_t count) {
  const Run& strand = runs[id];
  uint64_t* column = arena.Words(strand.hashes) + (block - strand.base);
  const kv::EngineHash* names = storing.hashes.data() + index;
  // The names after the next are fetched, then the next ones' further buckets.
  PlaceTable::Seat seats[3][kAhead];
  uint64_t mixed[kAhead];
  const auto fetch = [&](uint32_t at) {
    PlaceTable::Seat* into = seats[at / kAhead % 3];
    const uint32_t end = std::min(kAhead, count - at);
#pragma clang loop vectorize(disable)
    for (uint32_t i = 0; i < end; ++i) mixed[i] = hashes.Mix(names[at + i]);
    for (uint32_t i = 0; i < end; ++i) into[i] = hashes.Fetch(mixed[i]);
  };
  const auto fetch_more = [&](uint32_t at) {
    const PlaceTable::Seat* of = seats[at / kAhead % 3];
    const uint32_t end = std::min(kAhead, count - at);
    for (uint32_t i = 0; i < end; ++i) PlaceTable::FetchMore(of[i]);
  };
  fetch(0);
  if (kAhead < count) fetch(kAhead);
  for (uint32_t at = 0; at < count; at += kAhead) {
    if (at + 2 * kAhead < count) fetch(at + 2 * kAhead);
    if (at + kAhead < count) fetch_more(at + kAhead);
    const PlaceTable::Seat* of = seats[at / kAhead % 3];
    const uint32_t end = std::min(at + kAhead, count);
    Place place = PlaceIn(id, block + at);
    for (uint32_t i = at; i < end; ++i, ++place.offset) {
      Save(column + i, names[i]);
      if (hashes.InsertAlone(of[i - at], place)) continue;
      const uint64_t name = hashes.Mix(names[i]);
      const bool twin = hashes.Find(name, [&](Place found) {
        const Run& other = runs[found.run];
        return HashAt(other, other.base + found.offset) == names[i];
      });
      if (twin && !NameTwin(storing, id, block, block + i, names[i])) return i;
      if (!hashes.Insert(name, place)) return i;
    }
  }
  return count;
}

void Core::Commit(Storing& storing, RunId id, uint32_t from, uint32_t to) {
  Run& strand = runs[id];
  Changing changing(RunOf(strand));
  const bool sole = strand.end > strand.base && coverage.IsSole(strand, storing.lane);
  if (to <= strand.end || !sole) {
    if (to > strand.end) strand.end = static_cast<uint16_t>(to);
    storing.admitted += AddCopies(storing.lane, id, from, to);
    return;
  }
  // Holding all of it stays holding all of it. The lane is taken back for the count.
  const bool alone = SingleStrand(RunOf(strand));
  const uint32_t blocks = alone ? to - from : Bare(RunOf(strand), from, to);
  const uint32_t admitted = alone ? to - from : Alone(storing.lane, id, from, to);
  strand.end = static_cast<uint16_t>(to);
  Lane& lane = lanes[storing.lane];
  lane.blocks += to - from;
  lane.holder->entries[static_cast<size_t>(lane.tier)] =
      lane.holder->entries[static_cast<size_t>(lane.tier)] + admitted;
  stats.blocks += blocks;
  stats.entries += admitted;
  stats.admissions += admitted;
  storing.admitted += admitted;
}

RunId Core::StrandFor(LaneId lane, RunId run_id, uint32_t block, uint32_t* count) {
  const Run& run = runs[run_id];
  RunId open = 0;
  uint32_t strands = 0;
  for (RunId id = run_id; id != 0; id = runs[id].next_strand) {
    const Run& strand = runs[id];
    ++strands;
    if (block < strand.base || block > strand.end || coverage.Crowded(strand)) continue;
    if (block == strand.end) {
      if (id != run_id && (coverage.Empty(strand) || coverage.IsSole(strand, lane))) open = id;
      continue;
    }
    if (coverage.Held(strand, block)) continue;
    uint32_t free = 0;
    coverage.Gaps(strand, block, std::min<uint32_t>(block + *count, strand.end),
                  [&](uint32_t from, uint32_t to) {
                    if (from == block) free = to - from;
                  });
    *count = free;
    return id;
  }
  *count = std::min(*count, kChunk);
  if (!MakeRoom(*count * (kBlockBytes - 8) + kRunBytes)) return 0;
  if (open == 0) {
    if (strands == kMaxStrands || (open = runs.Allocate()) == 0) return 0;
    Run& strand = runs[open];
    strand.run = run_id;
    strand.base = static_cast<uint16_t>(block);
    strand.end = static_cast<uint16_t>(block);
    strand.next_strand = RunId{run.next_strand};
    Changing changing(runs[run_id]);
    runs[run_id].next_strand = open;
  }
  return Reserve(runs[open], block - runs[open].base + *count) ? open : 0;
}

uint32_t Core::Join(Storing& storing, RunId run_id, uint32_t from, uint32_t count) {
  runs[run_id].tick = tick;
  uint32_t done = 0;
  while (done < count) {
    const uint32_t block = from + done;
    const size_t index = storing.done + done;
    const kv::EngineHash hash = storing.hashes[index];
    RunId id = run_id;
    for (; id != 0; id = runs[id].next_strand) {
      const Run& strand = runs[id];
      if (block >= strand.base && block < strand.end && HashAt(strand, block) == hash &&
          coverage.Held(strand, block)) {
        break;
      }
    }
    uint32_t stretch = count - done;
    if (id != 0) {
      const Run& strand = runs[id];
      if (coverage.Crowded(strand)) return done;
      stretch = std::min<uint32_t>(stretch, strand.end - block);
      if (strand.Has(Run::kTwins)) {
        stretch = 1;
        Spot other;
        do {  // the same name for another block
          other = {};
          hashes.Find(hashes.Mix(hash), [&](Place place) {
            const Run& twin = runs[place.run];
            const Spot spot{place.run, twin.base + place.offset};
            if ((twin.run == run_id && spot.block == block) || HashAt(twin, spot.block) != hash ||
                !CoversAlias(storing.holder, storing.group, spot)) {
              return false;
            }
            other = spot;
            return true;
          });
          if (other.strand != 0) DropAlias(storing.holder, storing.group, other);
        } while (other.strand != 0);
      } else {
        const uint64_t* column = arena.Words(strand.hashes) + (block - strand.base);
        uint32_t same = 1;
        while (same < stretch && Load(column + same) == storing.hashes[index + same]) ++same;
        stretch = same;
        bool first = true;
        coverage.Gaps(strand, block, block + stretch, [&](uint32_t gap, uint32_t) {
          if (std::exchange(first, false)) stretch = gap - block;
        });
      }
      storing.admitted += AddCopies(storing.lane, id, block, block + stretch);
    } else {
      if ((id = StrandFor(storing.lane, run_id, block, &stretch)) == 0) return done;
      stretch = Name(storing, id, block, index, stretch);
      if (stretch == 0) return done;
      Commit(storing, id, block, block + stretch);
    }
    done += stretch;
  }
  return done;
}

size_t Core::Cover(LaneId id, RunId strand_id, uint32_t from, uint32_t to) {
  Run& strand = runs[strand_id];
  Run& run = RunOf(strand);
  Lane& lane = lanes[id];
  const uint32_t admitted = Alone(id, strand_id, from, to);
  stats.blocks += Bare(run, from, to);
  stats.entries += admitted;
  stats.admissions += admitted;
  lane.blocks += to - from;
  auto& entries = lane.holder->entries[static_cast<size_t>(lane.tier)];
  entries = entries + admitted;
  Changing changing(run);
  coverage.Add(strand, id, from, to);
  return admitted;
}

size_t Core::AddCopies(LaneId id, RunId strand_id, uint32_t from, uint32_t to) {
  Run& strand = runs[strand_id];
  thread_local std::vector<std::pair<uint32_t, uint32_t>> had;
  had.clear();
  coverage.ForLane(strand, id, [&](uint32_t begin, uint32_t end) {
    begin = std::max(begin, from);
    end = std::min(end, to);
    if (begin < end) had.emplace_back(begin, end);
  });
  size_t admitted = 0;
  for (const auto& [begin, end] : had) {
    if (begin > from) admitted += Cover(id, strand_id, from, begin);
    strand.Set(Run::kDuplicates);
    stats.duplicate_stores += end - begin;
    for (uint32_t block = begin; block < end; ++block) {
      ++extra_copies_[CopiesKey(id, PlaceIn(strand_id, block))];
    }
    from = end;
  }
  if (from < to) admitted += Cover(id, strand_id, from, to);
  return admitted;
}

size_t Core::StoreKnown(Holder holder, Tier tier, uint32_t group,
                        std::span<const kv::EngineHash> names) {
  Sweep(kSweepEffort);
  size_t admitted = 0;
  HolderState* state = lanes.Find(holder);
  if (state == nullptr) return 0;
  LaneId lane = lanes.FindLane(*state, tier, group);
  if (lane != Lanes::kNone) ++lanes[lane].blocks;
  for (const kv::EngineHash name : names) {
    const Spot spot = FindAlias(*state, group, name);
    if (spot.strand == 0 || coverage.Crowded(runs[spot.strand])) continue;
    if (lane == Lanes::kNone) {
      lane = lanes.Obtain(holder, tier, group);
      if (lane == Lanes::kNone) return admitted;
      ++lanes[lane].blocks;
    }
    admitted += AddCopies(lane, spot.strand, spot.block, spot.block + 1);
  }
  if (lane != Lanes::kNone) {
    --lanes[lane].blocks;
    lanes.DropIfEmpty(lane);
  }
  MakeRoom(0);
  return admitted;
}

}  // namespace warmpath::index
