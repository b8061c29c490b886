#include "index/place_table.h"

#include <bit>

#include "base/check.h"
#include "base/hash.h"

namespace warmpath::index {
namespace {

// The next larger of sizes 2^n and 3 * 2^n: what shards give back when they grow fits together
// again and serves the next ones.
uint32_t RoundUp(uint32_t buckets) {
  const uint32_t power = std::bit_ceil(buckets);
  return buckets <= power / 4 * 3 ? power / 4 * 3 : power;
}

}  // namespace

PlaceTable::PlaceTable(Arena& arena, uint32_t shards)
    : seed_(ProcessSeed()), arena_(arena), shards_(shards) {
  WP_CHECK((shards & (shards - 1)) == 0);
}

void PlaceTable::Put(uint64_t range, uint64_t slot) const {
  uint64_t at = Home(slot >> (kRunBits + kOffsetBits), range);
  for (;; at = at + 1 == BucketsOf(range) ? 0 : at + 1) {
    uint64_t* slots = Bucket(range, at);
    const uint32_t empty = EqualTo(slots, 0);
    if (empty == 0) continue;
    Save(slots + std::countr_zero(empty), slot);
    return;
  }
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
    // Without a branch on what is empty, which nothing could predict.
    uint64_t nowhere = 0;
    const uint64_t* slots = Bucket(old, 0);
    for (uint64_t i = 0; i < uint64_t{BucketsOf(old)} * kSlots; ++i) {
      if (i % kSlots == 0) __builtin_prefetch(slots + i + 8 * kSlots);
      const uint64_t slot = Load(slots + i);
      uint64_t at = Home(slot >> (kRunBits + kOffsetBits), range);
      if (in[at] == kSlots) {
        if (slot == 0) continue;
        while (in[at] == kSlots) at = at + 1 == buckets ? 0 : at + 1;
      }
      Save(slot == 0 ? &nowhere : words + at * kSlots + in[at], slot);
      in[at] = static_cast<uint8_t>(in[at] + (slot == 0 ? 0 : 1));
    }
  }
  shard.version = shard.version + 1;
  std::atomic_thread_fence(std::memory_order_release);
  shard.range = range;
  // The old slots may be overwritten from now on.
  if (old != 0) arena_.Free(RefOf(old), BucketsOf(old));
  shard.version.atomic().store(shard.version + 1, std::memory_order_release);
  return true;
}

bool PlaceTable::Insert(uint64_t mixed, Place place) {
  const uint32_t id = ShardOf(mixed);
  Shard& shard = shards_[id];
  if (shard.count >= LimitOf(id, shard.range)) {
    if (!Resize(shard, RoundUp(BucketsOf(shard.range) + 1))) return false;
  }
  Put(shard.range, Pack(TagOf(mixed), place));
  ++shard.count;
  return true;
}

bool PlaceTable::Erase(uint64_t mixed, Place place) {
  const uint32_t id = ShardOf(mixed);
  Shard& shard = shards_[id];
  const uint64_t range = shard.range;
  const uint32_t buckets = BucketsOf(range);
  if (buckets == 0) return false;
  const uint64_t wanted = Pack(TagOf(mixed), place);
  // The bucket that has it, and whether it is full: only then something may have gone past it.
  uint64_t* gap = nullptr;
  uint64_t at = Home(TagOf(mixed), range);
  bool full = true;
  for (uint32_t steps = 0; gap == nullptr; at = at + 1 == buckets ? 0 : at + 1) {
    uint64_t* slots = Bucket(range, at);
    const uint32_t found = EqualTo(slots, wanted);
    if (found != 0) gap = slots + std::countr_zero(found);
    full = EqualTo(slots, 0) == 0;
    if (gap != nullptr) break;
    if (!full || ++steps == buckets) return false;
  }
  if (--shard.count < LimitOf(id, range) / 4) {
    const uint32_t smaller = shard.count == 0 ? 0 : RoundUp(shard.count / 4 + 1);
    if (smaller < buckets) {
      Save(gap, 0);
      if (Resize(shard, smaller)) return true;
    }
  }
  if (!full) {
    Save(gap, 0);
    return true;
  }
  shard.version = shard.version + 1;
  std::atomic_thread_fence(std::memory_order_release);
  // What went past the bucket that has a gap now moves up into it, which leaves the next gap.
  uint64_t hole = at;
  for (uint32_t steps = 0; full && steps < buckets; ++steps) {
    at = at + 1 == buckets ? 0 : at + 1;
    uint64_t* slots = Bucket(range, at);
    const uint32_t taken = ~EqualTo(slots, 0) & 0xff;
    full = taken == 0xff;
    const uint32_t move =
        taken & (hole < at ? ~Between(slots, range, hole, at) : Between(slots, range, at, hole));
    if (move == 0) continue;
    uint64_t* moving = slots + std::countr_zero(move);
    Save(gap, Load(moving));
    gap = moving;
    hole = at;
  }
  Save(gap, 0);
  shard.version.atomic().store(shard.version + 1, std::memory_order_release);
  return true;
}

}  // namespace warmpath::index
