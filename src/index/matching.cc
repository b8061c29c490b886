#include "index/matching.h"

#include <algorithm>
#include <bit>

#include "index/coverage.h"

namespace warmpath::index {
namespace {

constexpr int kTries = 64;
constexpr uint32_t kNear = 160;  // keys that are better asked for at once than searched further
constexpr uint32_t kMostStrands = 2048;  // of one run, while the list may be changing

void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// How many of `keys` the run's keys equal, at most `count`; the first ones are equal. Equal at a
// place means equal before it. `guess` is tried first; several places at a time: their cache misses
// overlap.
uint32_t CommonPrefix(const uint64_t* run, const kv::BlockKey* keys, uint32_t count,
                      uint32_t guess) {
  const auto equal_at = [&](uint32_t place) { return Load(run + place - 1) == keys[place - 1]; };
  __builtin_prefetch(run + guess);
  if (equal_at(count)) return count;
  uint32_t low = 1, high = count - 1;  // `low` are equal, more than `high` are not
  if (guess > low && guess < high) {
    if (!equal_at(guess)) {
      high = guess - 1;
    } else {
      if (!equal_at(guess + 1)) return guess;
      low = guess + 1;
    }
  }
  while (high - low > kNear) {
    const uint32_t step = (high - low) / 16;
    for (uint32_t i = 1; i < 16; ++i) __builtin_prefetch(run + low + i * step - 1);
    uint32_t equal = 0;
    for (uint32_t i = 8; i > 0; i /= 2) {
      const uint32_t place = low + (equal + i) * step;
      if (equal_at(place)) equal += i;
    }
    high = equal < 15 ? low + (equal + 1) * step - 1 : high;
    low += equal * step;
  }
  for (uint32_t i = low; i <= high; i += 8) __builtin_prefetch(run + i);
  while (low < high) {
    const uint32_t middle = (low + high + 1) / 2;
    if (equal_at(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace

struct Matcher::Window {
  RunId run = 0;
  uint32_t blocks = 0;
  bool whole = false;
};

struct Matcher::Scratch {
  struct Piece {
    uint32_t slot = 0;
    uint32_t from = 0, to = 0;
    bool gpu = false;
  };
  struct Count {
    uint32_t blocks = 0, gpu_blocks = 0;
  };
  struct End {  // within a window
    uint32_t slot = 0;
    Count count;
  };
  struct Pending {
    size_t match = 0;
    uint32_t slot = 0;
    uint32_t reached = 0, next = 0;
    bool done = false;
  };
  // Of a lookup.
  uint32_t words = 0, groups = 0;
  std::vector<uint64_t> seen, any, gpu;  // holders, by slot: with a block; without a hole so far
  std::vector<Count> counts;
  // Of the window at hand.
  std::vector<uint64_t> now_any, now_gpu;  // hold all of it
  std::vector<Piece> pieces;
  std::vector<End> ends;
  // Of the second pass.
  std::vector<Pending> pending;
};

Matcher::Scratch& Matcher::LocalScratch() {
  thread_local Scratch scratch;
  return scratch;
}

template <typename Read>
Matcher::Visit Matcher::Enter(std::span<const kv::BlockKey> keys, RunId hint, Window& window,
                              Read read) {
  for (int tries = 0; tries < kTries; ++tries) {
    RunId id = hint;
    if (id == 0 || core_.runs[id].head != keys[0]) {
      const auto result = core_.heads.Lookup(core_.heads.Mix(keys[0]), [&](Place place) {
        if (place.run >= core_.runs.max_runs()) return false;
        __builtin_prefetch(&core_.runs[place.run].inline_interval);
        if (core_.runs[place.run].head != keys[0]) return false;
        id = place.run;
        return true;
      });
      if (result == PlaceTable::Result::kAbsent) return Visit::kAbsent;
      if (result == PlaceTable::Result::kBusy) return Visit::kBusy;
    }
    Run& run = core_.runs[id];
    __builtin_prefetch(&run.inline_interval);
    const uint32_t seq = run.seq.atomic().load(std::memory_order_acquire);
    if ((seq & 1) != 0) {
      Relax();
      continue;
    }
    const uint32_t length = run.end;
    const auto most = static_cast<uint32_t>(std::min<size_t>(length, keys.size()));
    if (run.head != keys[0]) continue;
    const RunId next = run.hint;
    __builtin_prefetch(&core_.runs[next]);
    window.run = id;
    window.blocks = most;
    if (most > 0) {
      if (run.intervals > 1) __builtin_prefetch(core_.arena.Words(run.interval));
      window.blocks = CommonPrefix(core_.arena.Words(run.keys), keys.data(), most, run.branch);
      if (window.blocks < keys.size()) core_.heads.Prefetch(core_.heads.Mix(keys[window.blocks]));
      read(std::as_const(run), window.blocks);
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    if (run.seq != seq) continue;
    if (most == 0) return Visit::kAbsent;  // a run that is just beginning
    window.whole = window.blocks == length;
    if (const uint32_t now = core_.tick; run.tick != now) run.tick = now;
    return Visit::kSeen;
  }
  return Visit::kBusy;
}

// Which holders have all of the run's first `blocks`, and where the others' coverage ends.
// `plain`: a holder is a lane, and pieces that do not begin at the beginning do not count.
void Matcher::Read(const Run& run, uint32_t blocks, bool plain, Scratch& s) const {
  std::fill(s.now_any.begin(), s.now_any.end(), 0);
  std::fill(s.now_gpu.begin(), s.now_gpu.end(), 0);
  s.pieces.clear();
  s.ends.clear();
  const Lanes& lanes = core_.lanes;
  const bool single = run.next_strand == 0;
  const Run* strand = &run;
  for (uint32_t strands = 0; strands < kMostStrands; ++strands) {
    const uint32_t base = strand->base, end = strand->end;
    const bool spans = base == 0 && end >= blocks;
    const auto word = [&](uint32_t index, uint64_t bits) {
      if (index >= s.words) return;
      bits &= lanes.live(index);
      const uint32_t group = lanes.slot_group(index);
      if (bits == 0 || group >= s.groups) return;
      const bool gpu = lanes.gpu(index);
      if (spans) {
        s.now_any[group] |= bits;
        if (gpu) s.now_gpu[group] |= bits;
        return;
      }
      for (; bits != 0; bits &= bits - 1) {
        s.pieces.push_back({group * 64 + static_cast<uint32_t>(std::countr_zero(bits)), base,
                            std::min(end, blocks), gpu});
      }
    };
    if (base < blocks) {
      for (uint32_t i = 0; i < kInlineWords; ++i) word(i, strand->inline_words[i]);
      const uint32_t words = std::min<uint32_t>(strand->word_count, Lanes::kMaxWords);
      const uint64_t* more = core_.arena.Words(strand->words);
      for (uint32_t i = 0; i < words; ++i) word(kInlineWords + i, Load(more + i));
      const Coverage::List list = core_.coverage.ListOf(*strand);
      for (uint32_t i = 0; i < list.count; ++i) {
        const uint64_t packed = Load(list.intervals + i);
        const uint32_t from = Coverage::FromOf(packed);
        if (from >= blocks || (from > 0 && plain && single)) break;
        uint32_t to = Coverage::ToOf(packed);
        if (to == Coverage::kToEnd) to = end;
        const LaneId lane = Coverage::LaneOf(packed);
        const uint32_t index = lane / 64;
        if (index >= s.words || !lanes.Live(lane)) continue;
        const uint32_t group = lanes.slot_group(index);
        if (group >= s.groups) continue;
        if (from == 0 && to >= blocks) {
          s.now_any[group] |= uint64_t{1} << (lane % 64);
          if (lanes.gpu(index)) s.now_gpu[group] |= uint64_t{1} << (lane % 64);
        } else if (plain && single) {
          s.ends.push_back({group * 64 + lane % 64, {to, to}});
        } else {
          s.pieces.push_back(
              {group * 64 + lane % 64, from, std::min(to, blocks), lanes.gpu(index)});
        }
      }
    }
    const RunId next = strand->next_strand;
    if (next == 0) break;
    strand = &core_.runs[next];
  }
  if (s.pieces.empty()) return;
  if (!plain || !single) {
    std::sort(s.pieces.begin(), s.pieces.end(), [](const auto& a, const auto& b) {
      return a.slot != b.slot ? a.slot < b.slot : a.from < b.from;
    });
  }
  for (size_t i = 0; i < s.pieces.size();) {
    const uint32_t slot = s.pieces[i].slot;
    Scratch::Count reached;
    for (; i < s.pieces.size() && s.pieces[i].slot == slot; ++i) {
      const auto& piece = s.pieces[i];
      if (piece.from <= reached.blocks) reached.blocks = std::max(reached.blocks, piece.to);
      if (piece.gpu && piece.from <= reached.gpu_blocks) {
        reached.gpu_blocks = std::max(reached.gpu_blocks, piece.to);
      }
    }
    const uint64_t bit = uint64_t{1} << (slot % 64);
    if (reached.blocks >= blocks) s.now_any[slot / 64] |= bit;
    if (reached.gpu_blocks >= blocks) s.now_gpu[slot / 64] |= bit;
    s.ends.push_back({slot, reached});
  }
}

// Takes the window's result over; `at` is its place in the chain.
void Matcher::Fold(uint32_t at, bool first, Scratch& s) const {
  if (first) {
    s.seen = s.now_any;
    for (const auto& end : s.ends) {
      if (end.count.blocks > 0) s.seen[end.slot / 64] |= uint64_t{1} << (end.slot % 64);
    }
    s.any = s.seen;
    s.gpu = s.seen;
  }
  for (uint32_t group = 0; group < s.groups; ++group) {
    uint64_t any = s.any[group] & ~s.now_any[group];
    uint64_t gpu = s.gpu[group] & ~s.now_gpu[group];
    for (uint64_t both = any & gpu; both != 0; both &= both - 1) {
      s.counts[group * 64 + static_cast<uint32_t>(std::countr_zero(both))] = {at, at};
    }
    const uint64_t both = any & gpu;
    for (any &= ~both; any != 0; any &= any - 1) {
      s.counts[group * 64 + static_cast<uint32_t>(std::countr_zero(any))].blocks = at;
    }
    for (gpu &= ~both; gpu != 0; gpu &= gpu - 1) {
      s.counts[group * 64 + static_cast<uint32_t>(std::countr_zero(gpu))].gpu_blocks = at;
    }
  }
  for (const auto& end : s.ends) {
    const uint32_t group = end.slot / 64;
    const uint64_t bit = uint64_t{1} << (end.slot % 64);
    if ((s.any[group] & ~s.now_any[group] & bit) != 0) {
      s.counts[end.slot].blocks = at + end.count.blocks;
    }
    if ((s.gpu[group] & ~s.now_gpu[group] & bit) != 0) {
      s.counts[end.slot].gpu_blocks = at + end.count.gpu_blocks;
    }
  }
  for (uint32_t group = 0; group < s.groups; ++group) {
    s.any[group] &= s.now_any[group];
    s.gpu[group] &= s.now_gpu[group];
  }
}

bool Matcher::Match(std::span<const kv::BlockKey> keys, std::vector<HolderMatch>& out) {
  Scratch& s = LocalScratch();
  const Lanes& lanes = core_.lanes;
  for (int tries = 0; tries < kTries; ++tries) {
    const uint32_t version = lanes.version();
    if ((version & 1) != 0) {
      Relax();
      continue;
    }
    s.words = lanes.words();
    s.groups = lanes.slot_groups();
    if (s.counts.size() < s.groups * 64) s.counts.resize(s.groups * 64);
    s.now_any.resize(s.groups);
    s.now_gpu.resize(s.groups);
    const bool plain = lanes.simple();
    uint32_t at = 0;
    Window window;
    bool alive = true;
    while (alive && at < keys.size()) {
      const RunId hint = window.run == 0 ? 0 : RunId{core_.runs[window.run].hint};
      const Visit visit =
          Enter(keys.subspan(at), hint, window,
                [&](const Run& run, uint32_t blocks) { Read(run, blocks, plain, s); });
      if (visit == Visit::kBusy) return false;
      if (visit == Visit::kAbsent) break;
      Fold(at, at == 0, s);
      at += window.blocks;
      uint64_t left = 0;
      for (uint32_t group = 0; group < s.groups; ++group) left |= s.any[group];
      alive = left != 0;
    }
    size_t count = 0;
    if (at > 0) {
      for (uint32_t group = 0; group < s.groups; ++group) {
        count += static_cast<size_t>(std::popcount(s.seen[group]));
      }
    }
    out.resize(count);
    if (count > 0) {
      HolderMatch* match = out.data();
      const HolderMatch* const end = match + count;
      const uint32_t slots = lanes.slots(), groups = s.groups;
      const uint64_t *const seen = s.seen.data(), *const any = s.any.data(),
                            *const gpu = s.gpu.data();
      const Scratch::Count* const counts = s.counts.data();
      const auto put = [&](uint32_t slot, uint32_t group, uint64_t bit) {
        const Scratch::Count ended = counts[slot];
        match->holder = lanes.holder(slot);
        match->blocks = (any[group] & bit) != 0 ? at : ended.blocks;
        match->gpu_blocks = (gpu[group] & bit) != 0 ? at : ended.gpu_blocks;
        match->expected_blocks = match->blocks;
        ++match;
      };
      if (count * 8 >= slots) {
        for (uint32_t rank = 0; rank < slots && match != end; ++rank) {
          const uint32_t slot = lanes.slot_at(rank), group = slot / 64;
          const uint64_t bit = uint64_t{1} << (slot % 64);
          if (group < groups && (seen[group] & bit) != 0) put(slot, group, bit);
        }
      } else {
        for (uint32_t group = 0; group < groups; ++group) {
          for (uint64_t left = seen[group]; left != 0; left &= left - 1) {
            put(group * 64 + static_cast<uint32_t>(std::countr_zero(left)), group, left & -left);
          }
        }
        std::sort(out.begin(), out.end(),
                  [](const HolderMatch& a, const HolderMatch& b) { return a.holder < b.holder; });
      }
    }
    if (lanes.Unchanged(version)) return true;
  }
  return false;
}

// How far the holder covers the run from `from` on, within its first `blocks`.
uint32_t Matcher::Reach(const Run& run, uint32_t slot, uint32_t from, uint32_t blocks,
                        Scratch& s) const {
  s.pieces.clear();
  const Lanes& lanes = core_.lanes;
  const Run* strand = &run;
  for (uint32_t strands = 0; strands < kMostStrands; ++strands) {
    core_.coverage.ForAll(*strand, [&](LaneId lane, uint32_t begin, uint32_t end) {
      if (lane / 64 >= s.words || lane % 64 != slot % 64 ||
          lanes.slot_group(lane / 64) != slot / 64 || !lanes.Live(lane)) {
        return;
      }
      s.pieces.push_back({slot, begin, std::min(end, blocks), false});
    });
    const RunId next = strand->next_strand;
    if (next == 0) break;
    strand = &core_.runs[next];
  }
  std::sort(s.pieces.begin(), s.pieces.end(),
            [](const auto& a, const auto& b) { return a.from < b.from; });
  for (const auto& piece : s.pieces) {
    if (piece.from <= from && piece.to > from) from = piece.to;
  }
  return from;
}

bool Matcher::Expect(std::span<const kv::BlockKey> keys, std::span<const Holds::Cover> covers,
                     std::vector<HolderMatch>& out) {
  if (covers.empty()) return true;
  Scratch& s = LocalScratch();
  const size_t resident = out.size();
  for (const Holds::Cover& cover : covers) {
    const Holder holder{static_cast<uint32_t>(cover.packed_holder >> 16),
                        static_cast<uint16_t>(cover.packed_holder)};
    const auto end = out.begin() + static_cast<std::ptrdiff_t>(resident);
    const auto it = std::lower_bound(
        out.begin(), end, holder,
        [](const HolderMatch& match, const Holder& wanted) { return match.holder < wanted; });
    if (it != end && it->holder == holder) {
      it->expected_blocks = std::max(it->blocks, cover.blocks);
    } else {
      out.push_back({holder, 0, 0, cover.blocks});
    }
  }
  std::sort(out.begin(), out.end(),
            [](const HolderMatch& a, const HolderMatch& b) { return a.holder < b.holder; });
  // Behind what is held, a holder may have resident blocks again.
  for (int tries = 0; tries < kTries; ++tries) {
    const uint32_t version = core_.lanes.version();
    if ((version & 1) != 0) {
      Relax();
      continue;
    }
    s.words = core_.lanes.words();
    s.pending.clear();
    uint32_t furthest = 0;
    for (size_t i = 0; i < out.size(); ++i) {
      const HolderMatch& match = out[i];
      if (match.expected_blocks <= match.blocks || match.expected_blocks >= keys.size()) continue;
      const std::optional<uint32_t> slot = core_.lanes.SlotOf(match.holder);
      if (!slot) continue;
      s.pending.push_back({i, *slot, match.expected_blocks, 0, false});
      furthest = std::max(furthest, match.expected_blocks);
    }
    if (s.pending.empty()) return true;
    uint32_t at = 0;
    Window window;
    while (at < keys.size()) {
      const RunId hint = window.run == 0 ? 0 : RunId{core_.runs[window.run].hint};
      const Visit visit =
          Enter(keys.subspan(at), hint, window, [&](const Run& run, uint32_t blocks) {
            for (auto& pending : s.pending) {
              pending.next = pending.reached;
              if (pending.done || pending.reached < at || pending.reached >= at + blocks) continue;
              pending.next = at + Reach(run, pending.slot, pending.reached - at, blocks, s);
            }
          });
      if (visit == Visit::kBusy) return false;
      if (visit == Visit::kSeen) {
        at += window.blocks;
        for (auto& pending : s.pending) pending.reached = pending.next;
      } else {
        // Nobody has this block; the next that somebody has begins a run without a parent.
        do {
          ++at;
        } while (at <= furthest && at < keys.size() && !core_.absent.MayContain(keys[at - 1]));
        window = {};
      }
      bool more = false;
      for (auto& pending : s.pending) {
        pending.done |= pending.reached < at;
        more |= !pending.done;
      }
      if (!more) break;
    }
    if (!core_.lanes.Unchanged(version)) continue;
    for (const auto& pending : s.pending) {
      out[pending.match].expected_blocks = pending.reached;
    }
    return true;
  }
  return false;
}

}  // namespace warmpath::index
