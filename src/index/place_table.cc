#include "index/place_table.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "base/hash.h"

namespace warmpath::index {
namespace {

constexpr uint64_t kGather = 8;  // buckets

// The next larger of sizes 2^n and 3 * 2^n: what shards give back when they grow fits together
// again and serves the next ones.
uint32_t RoundUp(uint32_t buckets) {
  const uint32_t power = std::bit_ceil(buckets);
  return buckets <= power / 4 * 3 ? power / 4 * 3 : power;
}

}  // namespace

PlaceTable::PlaceTable(Arena& arena, uint32_t shards)
    : seed_(ProcessSeed()), arena_(arena), last_shard_(shards - 1), shards_(shards) {
  WP_CHECK((shards & (shards - 1)) == 0);
}

// Readers stay out while a shard's version is odd.
class PlaceTable::Moving {
 public:
  explicit Moving(Shard& shard) : shard_(shard) {
    shard.version = shard.version + 1;
    std::atomic_thread_fence(std::memory_order_release);
  }
  ~Moving() { shard_.version.atomic().store(shard_.version + 1, std::memory_order_release); }
  Moving(const Moving&) = delete;
  Moving& operator=(const Moving&) = delete;

 private:
  Shard& shard_;
};

void PlaceTable::CountPassed(uint64_t* slots, bool more) {
  uint64_t* any = slots + kSlots - 1;
  if ((Load(any) & kMark) == 0) {
    WP_CHECK(more);
    Save(any, Load(any) | kMark);
    return;
  }
  // The others count those after the first, the lowest bit last; all ones are never counted down.
  const auto bit = [&](uint32_t slot) { return (Load(slots + slot) & kMark) != 0; };
  uint32_t ones = 0;
  for (uint32_t i = 0; i + 1 < kSlots; ++i) ones += bit(i) ? 1 : 0;
  if (ones == kSlots - 1) return;
  if (!more && ones == 0) {
    Save(any, Load(any) & ~kMark);
    return;
  }
  for (uint32_t i = kSlots - 1; i-- > 0;) {
    const bool carries = bit(i) == more;
    Save(slots + i, Load(slots + i) ^ kMark);
    if (!carries) return;
  }
}

bool PlaceTable::InsertFar(Shard& shard, uint64_t tag, Place place, bool alone) {
  const uint64_t range = shard.range;
  const uint32_t buckets = BucketsOf(range);
  const uint64_t home = Home(tag, range);
  const auto next = [&](uint64_t at) { return at + 1 == buckets ? 0 : at + 1; };
  uint64_t at = home;
  uint64_t* slot = nullptr;
  uint64_t slot_at = home;
  for (uint32_t steps = 1;; ++steps, at = next(at)) {
    uint64_t* slots = Bucket(range, at);
    const Seen seen = Look(slots, tag);
    if (alone && seen.alike != 0) return false;
    if (slot == nullptr && seen.empty != 0) {
      slot = slots + std::countr_zero(seen.empty);
      slot_at = at;
    }
    alone = alone && Passed(slots) && steps < buckets;
    if (slot != nullptr && !alone) break;
  }
  ++shard.count;
  if (slot_at == home) {
    Save(slot, Pack(tag, place) | (Load(slot) & kMark));
    return true;
  }
  const Moving moving(shard);
  Save(slot, Pack(tag, place) | (Load(slot) & kMark));
  for (at = home; at != slot_at; at = next(at)) CountPassed(Bucket(range, at), true);
  return true;
}

bool PlaceTable::Resize(Shard& shard, uint32_t buckets) {
  const uint64_t old = shard.range;
  uint64_t range = 0;
  if (buckets > 0) {
    const Arena::Ref ref = arena_.Allocate(buckets);
    if (ref == 0) return false;
    range = uint64_t{ref} << 32 | buckets;
    thread_local std::vector<uint8_t> filled;
    filled.assign(buckets, 0);
    uint8_t* const in = filled.data();
    uint64_t* words = Bucket(range, 0);
    for (uint64_t i = 0; i < uint64_t{buckets} * kSlots; ++i) Save(words + i, 0);
    const uint64_t* slots = Bucket(old, 0);
    for (uint64_t i = 0; i < BucketsOf(old); i += kGather) {
      // Gathered without a branch on what is empty, which nothing could predict.
      uint64_t gathered[kGather * kSlots];
      uint32_t count = 0;
      const uint64_t end = std::min<uint64_t>(i + kGather, BucketsOf(old)) * kSlots;
      for (uint64_t j = i * kSlots; j < end; ++j) {
        const uint64_t slot = Load(slots + j) & ~kMark;
        gathered[count] = slot;
        count += slot != 0 ? 1 : 0;
      }
      for (uint32_t j = 0; j < count; ++j) {
        const uint64_t slot = gathered[j];
        uint64_t at = Home(slot >> kTagShift, range);
        for (; in[at] == kSlots; at = at + 1 == buckets ? 0 : at + 1) {
          CountPassed(words + at * kSlots, true);
        }
        Save(words + at * kSlots + in[at]++, slot);
      }
    }
  }
  const Moving moving(shard);
  shard.range = range;
  shard.limit = LimitOf(static_cast<uint32_t>(&shard - shards_.data()), range);
  // The old slots may be overwritten from now on.
  if (old != 0) arena_.Free(RefOf(old), BucketsOf(old));
  return true;
}

bool PlaceTable::Insert(uint64_t mixed, Place place) {
  Shard& shard = shards_[ShardOf(mixed)];
  if (shard.count >= shard.limit) {
    if (!Resize(shard, RoundUp(BucketsOf(shard.range) + 1))) return false;
  }
  return InsertFar(shard, TagOf(mixed), place, false);
}

bool PlaceTable::Erase(uint64_t mixed, Place place) {
  Shard& shard = shards_[ShardOf(mixed)];
  const uint64_t range = shard.range;
  const uint32_t buckets = BucketsOf(range);
  if (buckets == 0) return false;
  const uint64_t home = Home(TagOf(mixed), range), wanted = Pack(TagOf(mixed), place);
  const auto next = [&](uint64_t at) { return at + 1 == buckets ? 0 : at + 1; };
  uint64_t at = home;
  uint64_t* slots = Bucket(range, at);
  uint64_t* slot = FindSlot(slots, wanted);
  for (uint32_t steps = 0; slot == nullptr; slot = FindSlot(slots, wanted)) {
    if (!Passed(slots) || ++steps == buckets) return false;
    at = next(at);
    slots = Bucket(range, at);
  }
  if (at == home) {
    Save(slot, Load(slot) & kMark);
  } else {
    const Moving moving(shard);
    Save(slot, Load(slot) & kMark);
    for (uint64_t passed = home; passed != at; passed = next(passed)) {
      CountPassed(Bucket(range, passed), false);
    }
  }
  if (--shard.count < shard.limit / 4) {
    const uint32_t smaller = shard.count == 0 ? 0 : RoundUp(shard.count / 4 + 1);
    if (smaller < buckets) Resize(shard, smaller);
  }
  return true;
}

}  // namespace warmpath::index
