#include "index/coverage.h"

#include <algorithm>

#include "base/check.h"

namespace warmpath::index {
namespace {

uint64_t Bit(LaneId lane) {
  return uint64_t{1} << (lane % 64);
}

}  // namespace

uint64_t* Coverage::WordOf(Run& run, LaneId lane) const {
  const uint32_t word = lane / 64;
  if (word < kInlineWords) return reinterpret_cast<uint64_t*>(&run.inline_words[word]);
  if (word - kInlineWords < run.word_count) return arena_.Words(run.words) + (word - kInlineWords);
  return nullptr;
}

bool Coverage::HasWholeInterval(const Run& run, LaneId lane) const {
  const uint64_t wanted = Pack(run.base, kToEnd, lane);
  const uint64_t* intervals = Intervals(run);
  const uint32_t count = run.intervals;
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t packed = Load(intervals + i);
    if (packed >= wanted) return packed == wanted;
  }
  return false;
}

bool Coverage::IsFull(const Run& run, LaneId lane) const {
  if (run.full == 0) return false;
  const uint64_t* word = WordOf(const_cast<Run&>(run), lane);
  if (word != nullptr && (Load(word) & Bit(lane)) != 0) return true;
  return lane / 64 >= kInlineWords && HasWholeInterval(run, lane);
}

bool Coverage::IsSole(const Run& run, LaneId lane) const {
  if (run.full != 1 || !IsFull(run, lane)) return false;
  return run.intervals == 0 || (run.intervals == 1 && HasWholeInterval(run, lane));
}

bool Coverage::Covers(const Run& run, LaneId lane, uint32_t block) const {
  if (block < run.base || block >= run.end) return false;
  bool covers = false;
  ForLane(run, lane, [&](uint32_t from, uint32_t to) { covers |= from <= block && block < to; });
  return covers;
}

bool Coverage::Held(const Run& run, uint32_t block) const {
  if (run.full > 0) return true;
  const uint64_t* intervals = Intervals(run);
  for (uint32_t i = 0; i < run.intervals; ++i) {
    const uint64_t packed = Load(intervals + i);
    if (FromOf(packed) > block) return false;
    if (ToOf(packed) > block) return true;
  }
  return false;
}

uint32_t Coverage::HeldEnd(const Run& run) const {
  if (run.full > 0) return run.end;
  uint32_t end = run.base;
  const uint64_t* intervals = Intervals(run);
  for (uint32_t i = 0; i < run.intervals; ++i) end = std::max(end, ToOf(Load(intervals + i)));
  return end;
}

void Coverage::Insert(Run& run, uint64_t packed) {
  const uint32_t count = run.intervals;
  WP_CHECK(count < kMaxIntervals);
  const uint32_t capacity =
      run.interval == 0 ? 1 : uint32_t{run.interval_units} * Arena::kUnitWords;
  if (count == capacity) {
    const uint32_t units = std::max(1u, run.interval_units + (run.interval_units + 1u) / 2);
    const Arena::Ref ref = arena_.Allocate(units);
    WP_CHECK(ref != 0);  // the arena is larger than the budget
    for (uint32_t i = 0; i < count; ++i) {
      Save(arena_.Words(ref) + i, Load(Intervals(run) + i));
    }
    if (run.interval != 0) arena_.Free(run.interval, run.interval_units);
    run.interval = ref;
    run.interval_units = static_cast<uint16_t>(units);
  }
  uint64_t* intervals = Intervals(run);
  uint32_t at = count;
  for (; at > 0 && Load(intervals + at - 1) > packed; --at) {
    Save(intervals + at, Load(intervals + at - 1));
  }
  Save(intervals + at, packed);
  run.intervals = static_cast<uint16_t>(count + 1);
}

void Coverage::EraseAt(Run& run, uint32_t index) {
  uint64_t* intervals = Intervals(run);
  const uint32_t count = run.intervals - 1u;
  for (uint32_t i = index; i < count; ++i) Save(intervals + i, Load(intervals + i + 1));
  run.intervals = static_cast<uint16_t>(count);
  if (run.interval == 0 || count > 1) return;
  const Arena::Ref ref = run.interval;
  const uint64_t last = Load(intervals);
  run.interval = 0;
  run.inline_interval = last;
  arena_.Free(ref, run.interval_units);
  run.interval_units = 0;
}

void Coverage::WidenWords(Run& run, LaneId lane) {
  const uint32_t count =
      (lane / 64 - kInlineWords) / Arena::kUnitWords * Arena::kUnitWords + Arena::kUnitWords;
  const Arena::Ref ref = arena_.Allocate(count / Arena::kUnitWords);
  if (ref == 0) return;
  uint64_t* words = arena_.Words(ref);
  const uint32_t had = run.word_count;
  for (uint32_t i = 0; i < count; ++i) {
    Save(words + i, i < had ? Load(arena_.Words(run.words) + i) : 0);
  }
  if (had > 0) arena_.Free(run.words, had / Arena::kUnitWords);
  run.words = ref;
  run.word_count = static_cast<uint16_t>(count);
  // Whole intervals become bits.
  for (uint32_t i = run.intervals; i-- > 0;) {
    const uint64_t packed = Load(Intervals(run) + i);
    if (ToOf(packed) != kToEnd || LaneOf(packed) / 64 - kInlineWords >= count) continue;
    uint64_t* word = WordOf(run, LaneOf(packed));
    Save(word, Load(word) | Bit(LaneOf(packed)));
    EraseAt(run, i);
  }
}

void Coverage::SetFull(Run& run, LaneId lane) {
  ++run.full;
  if (WordOf(run, lane) == nullptr) {
    // Words pay when they take less than the intervals they stand for.
    const uint32_t needed = lane / 64 - kInlineWords + 1;
    if (run.intervals >= std::max(8u, needed)) WidenWords(run, lane);
  }
  if (uint64_t* word = WordOf(run, lane); word != nullptr) {
    Save(word, Load(word) | Bit(lane));
  } else {
    Insert(run, Pack(run.base, kToEnd, lane));
  }
}

void Coverage::ClearFull(Run& run, LaneId lane) {
  --run.full;
  if (uint64_t* word = WordOf(run, lane); word != nullptr && (Load(word) & Bit(lane)) != 0) {
    Save(word, Load(word) & ~Bit(lane));
    return;
  }
  const uint64_t wanted = Pack(run.base, kToEnd, lane);
  const uint64_t* intervals = Intervals(run);
  for (uint32_t i = 0; i < run.intervals; ++i) {
    if (Load(intervals + i) == wanted) return EraseAt(run, i);
  }
  WP_CHECK(false);
}

void Coverage::Add(Run& run, LaneId lane, uint32_t from, uint32_t to) {
  if (from == to || IsFull(run, lane)) return;
  for (uint32_t i = run.intervals; i-- > 0;) {
    const uint64_t packed = Load(Intervals(run) + i);
    if (LaneOf(packed) != lane || FromOf(packed) > to || ToOf(packed) < from) continue;
    from = std::min(from, FromOf(packed));
    to = std::max(to, ToOf(packed));
    EraseAt(run, i);
  }
  if (from == run.base && to == run.end) {
    SetFull(run, lane);
  } else {
    Insert(run, Pack(from, to, lane));
  }
}

void Coverage::Remove(Run& run, LaneId lane, uint32_t from, uint32_t to) {
  if (from == to) return;
  if (IsFull(run, lane)) {
    ClearFull(run, lane);
    if (run.base < from) Insert(run, Pack(run.base, from, lane));
    if (to < run.end) Insert(run, Pack(to, run.end, lane));
    return;
  }
  for (uint32_t i = run.intervals; i-- > 0;) {
    const uint64_t packed = Load(Intervals(run) + i);
    const uint32_t begin = FromOf(packed), end = ToOf(packed);
    if (LaneOf(packed) != lane || begin >= to || end <= from) continue;
    EraseAt(run, i);
    if (begin < from) Insert(run, Pack(begin, from, lane));
    if (to < end) Insert(run, Pack(to, end, lane));
    // What was put back lies outside [from, to), wherever it went.
    i = run.intervals;
  }
}

void Coverage::Cut(Run& run, uint32_t end) {
  std::vector<uint64_t> changed;
  for (uint32_t i = run.intervals; i-- > 0;) {
    const uint64_t packed = Load(Intervals(run) + i);
    if (ToOf(packed) == kToEnd || ToOf(packed) < end) continue;
    if (ToOf(packed) == end && FromOf(packed) != run.base) continue;
    EraseAt(run, i);
    if (FromOf(packed) < end) changed.push_back(packed);
  }
  for (const uint64_t packed : changed) {
    if (FromOf(packed) == run.base) {
      SetFull(run, LaneOf(packed));
    } else {
      Insert(run, Pack(FromOf(packed), end, LaneOf(packed)));
    }
  }
}

void Coverage::Free(Run& run) {
  if (run.interval != 0) arena_.Free(run.interval, run.interval_units);
  if (run.word_count > 0) arena_.Free(run.words, run.word_count / Arena::kUnitWords);
  run.intervals = 0;
  run.interval = 0;
  run.interval_units = 0;
  run.inline_interval = 0;
  run.words = 0;
  run.word_count = 0;
  run.full = 0;
  for (auto& word : run.inline_words) word = 0;
}

}  // namespace warmpath::index
