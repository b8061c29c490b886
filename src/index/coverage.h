// Who holds which blocks of a strand: a bit per lane that holds all of it, an interval per stretch
// of a lane that holds less.
//
// Bits of the first 128 lanes lie in the run; others in words of their own once there are enough of
// them, before that as intervals that end at kToEnd. Intervals are ordered by their beginning.
// Changed under the index's writer lock within Changing(run); ForAll and ListOf may be used beside
// it.
#pragma once

#include <vector>

#include "index/run.h"

namespace warmpath::index {

class Coverage {
 public:
  static constexpr uint32_t kToEnd = 0xffff;
  static constexpr uint32_t kMaxIntervals = 0xffff;

  explicit Coverage(Arena& arena) : arena_(arena) {}

  // Intervals as they are ordered in memory: by beginning, end, lane.
  static uint64_t Pack(uint32_t from, uint32_t to, LaneId lane) {
    return uint64_t{from} << 48 | uint64_t{to} << 32 | lane;
  }
  static uint32_t FromOf(uint64_t packed) { return static_cast<uint32_t>(packed >> 48); }
  static uint32_t ToOf(uint64_t packed) { return static_cast<uint32_t>(packed >> 32) & 0xffff; }
  static LaneId LaneOf(uint64_t packed) { return static_cast<LaneId>(packed); }

  bool IsFull(const Run& run, LaneId lane) const;
  bool Covers(const Run& run, LaneId lane, uint32_t block) const;
  // The lane holds all of it and nobody else holds anything.
  bool IsSole(const Run& run, LaneId lane) const;
  bool Empty(const Run& run) const { return run.full == 0 && run.intervals == 0; }
  // Somebody holds the block.
  bool Held(const Run& run, uint32_t block) const;
  // One behind the last block that anybody holds; base when there is none.
  uint32_t HeldEnd(const Run& run) const;

  // Adding or removing a stretch takes at most two intervals more.
  bool Crowded(const Run& run) const { return run.intervals + 2u >= kMaxIntervals; }

  // Blocks must lie in the strand; not when it is crowded, unless whole lanes are removed.
  void Add(Run& run, LaneId lane, uint32_t from, uint32_t to);
  void Remove(Run& run, LaneId lane, uint32_t from, uint32_t to);
  // Before the strand's end moves to `end`: intervals are cut; whoever then holds all of it gets a
  // bit.
  void Cut(Run& run, uint32_t end);
  void Free(Run& run);

  // What the lane holds, as each(from, to).
  template <typename Each>
  void ForLane(const Run& run, LaneId lane, Each each) const {
    if (IsFull(run, lane)) {
      each(uint32_t{run.base}, uint32_t{run.end});
      return;
    }
    const List list = ListOf(run);
    for (uint32_t i = 0; i < list.count; ++i) {
      const uint64_t packed = Load(list.intervals + i);
      if (LaneOf(packed) == lane) each(FromOf(packed), ToOf(packed));
    }
  }

  // Everything, as each(lane, from, to).
  template <typename Each>
  void ForAll(const Run& run, Each each) const {
    const auto word = [&](uint32_t index, uint64_t bits) {
      for (; bits != 0; bits &= bits - 1) {
        each(index * 64 + static_cast<LaneId>(__builtin_ctzll(bits)), uint32_t{run.base},
             uint32_t{run.end});
      }
    };
    for (uint32_t i = 0; i < kInlineWords; ++i) word(i, run.inline_words[i]);
    const uint64_t* words = arena_.Words(run.words);
    for (uint32_t i = 0; i < run.word_count; ++i) word(kInlineWords + i, Load(words + i));
    const List list = ListOf(run);
    for (uint32_t i = 0; i < list.count; ++i) {
      const uint64_t packed = Load(list.intervals + i);
      const uint32_t to = ToOf(packed);
      each(LaneOf(packed), FromOf(packed), to == kToEnd ? uint32_t{run.end} : to);
    }
  }

  // Blocks of [from, to) that nobody holds, as each(from, to).
  template <typename Each>
  void Gaps(const Run& run, uint32_t from, uint32_t to, Each each) const {
    if (run.full > 0) return;
    const List list = ListOf(run);
    for (uint32_t i = 0; i < list.count && from < to; ++i) {
      const uint64_t packed = Load(list.intervals + i);
      const uint32_t begin = FromOf(packed);
      if (begin >= to) break;
      if (begin > from) each(from, begin);
      if (ToOf(packed) > from) from = ToOf(packed);
    }
    if (from < to) each(from, to);
  }

  struct List {
    const uint64_t* intervals;
    uint32_t count;
  };
  List ListOf(const Run& run) const {
    const Arena::Ref ref = run.interval;
    const uint32_t count = run.intervals;
    if (ref != 0) return {arena_.Words(ref), count};
    // A reader may see a count of before; one interval is all that lies in the run.
    return {reinterpret_cast<const uint64_t*>(&run.inline_interval), count > 0 ? 1u : 0u};
  }

 private:
  uint64_t* Intervals(const Run& run) const { return const_cast<uint64_t*>(ListOf(run).intervals); }
  void SetFull(Run& run, LaneId lane);
  void ClearFull(Run& run, LaneId lane);
  // Where the lane's bit lies; null while it has no word.
  uint64_t* WordOf(Run& run, LaneId lane) const;
  bool HasWholeInterval(const Run& run, LaneId lane) const;
  void Insert(Run& run, uint64_t packed);
  void EraseAt(Run& run, uint32_t index);
  void WidenWords(Run& run, LaneId lane);

  Arena& arena_;
};

}  // namespace warmpath::index
