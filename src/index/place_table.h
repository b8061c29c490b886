// Hash value -> places in runs: the index's only tables (engine hashes, first keys of runs).
//
// Open addressing in shards of buckets, a cache line of 8 slots {23-bit tag, 27-bit run, 13-bit
// offset, mark} each; what does not fit into its bucket goes into the next that has room. The marks
// of a bucket are the bits of a count: how many went past it. So a search knows where to end, and
// nothing has to move when something is erased. A slot's bucket follows from its tag, so a shard
// grows by one sweep over its own slots, without looking at what they stand for; shards are small
// and grow at different times, so growth is never a stall. What a slot names has to be verified by
// the caller.
//
// Changed under the index's writer lock; Lookup runs beside a writer.
#pragma once

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <bit>
#include <vector>

#include "index/run.h"

namespace warmpath::index {

struct Place {
  RunId run = 0;
  uint32_t offset = 0;
  friend bool operator==(const Place&, const Place&) = default;
};

class PlaceTable {
 public:
  // `shards` is a power of two.
  PlaceTable(Arena& arena, uint32_t shards);

  // Spreads values that clients choose; seeded per process.
  uint64_t Mix(uint64_t value) const {
    uint64_t x = (value ^ seed_) * 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ULL;
    return x ^ (x >> 29);
  }

  void Prefetch(uint64_t mixed) const {
    const uint64_t range = shards_[ShardOf(mixed)].range;
    __builtin_prefetch(Bucket(range, Home(TagOf(mixed), range)));
  }

  // Some steps after Prefetch: the next bucket, too, when the first one looks full or something
  // went past it.
  void PrefetchMore(uint64_t mixed) const {
    const uint64_t range = shards_[ShardOf(mixed)].range;
    if (range == 0) return;
    const uint64_t* slots = Bucket(range, Home(TagOf(mixed), range));
    __builtin_prefetch(slots + (Load(slots + kSlots - 1) != 0 ? kSlots : 0));
  }

  // Writer: calls `each(place)` for every slot that may be of `mixed` until it returns true.
  template <typename Each>
  bool Find(uint64_t mixed, Each each) const {
    const uint64_t range = shards_[ShardOf(mixed)].range;
    const uint32_t buckets = BucketsOf(range);
    if (buckets == 0) return false;
    const uint64_t tag = TagOf(mixed);
    uint64_t at = Home(tag, range);
    for (uint32_t steps = 0; steps < buckets; ++steps) {
      const uint64_t* slots = Bucket(range, at);
      for (uint32_t alike = Alike(slots, tag); alike != 0; alike &= alike - 1) {
        if (each(PlaceOf(Load(slots + std::countr_zero(alike))))) return true;
      }
      if (!Passed(slots)) return false;
      if (++at == buckets) at = 0;
    }
    return false;
  }

  enum class Result { kFound, kAbsent, kBusy };
  // Reader: the same beside a writer. kBusy: the table changed too often to tell.
  template <typename Each>
  Result Lookup(uint64_t mixed, Each each) const {
    const Shard& shard = shards_[ShardOf(mixed)];
    for (int tries = 0; tries < 16; ++tries) {
      const uint32_t version = shard.version.atomic().load(std::memory_order_acquire);
      bool found = false;
      Probe(shard.range, mixed, [&](Place place) { return found = each(place); });
      if (found) return Result::kFound;
      std::atomic_thread_fence(std::memory_order_acquire);
      if ((version & 1) == 0 && shard.version == version) return Result::kAbsent;
    }
    return Result::kBusy;
  }

  // False when there is no memory for it.
  bool Insert(uint64_t mixed, Place place);
  // Inserts if that needs no growth and nothing in the way might be of `mixed`, too.
  __attribute__((always_inline)) bool InsertAlone(uint64_t mixed, Place place) {
    const uint32_t id = ShardOf(mixed);
    Shard& shard = shards_[id];
    const uint64_t range = shard.range;
    if (shard.count >= LimitOf(id, range)) return false;
    const uint64_t tag = TagOf(mixed);
    uint64_t* slots = Bucket(range, Home(tag, range));
    const uint32_t empty = EqualTo(slots, 0);
    if (empty == 0 || Passed(slots)) return InsertFar(shard, tag, place);
    if (Alike(slots, tag) != 0) return false;
    uint64_t* slot = slots + std::countr_zero(empty);
    Save(slot, Pack(tag, place));
    ++shard.count;
    return true;
  }
  // Erases what is in its own bucket.
  bool EraseAlone(uint64_t mixed, Place place) {
    const uint32_t id = ShardOf(mixed);
    Shard& shard = shards_[id];
    const uint64_t range = shard.range;
    if (shard.count <= LimitOf(id, range) / 4) return false;
    const uint64_t tag = TagOf(mixed);
    uint64_t* slots = Bucket(range, Home(tag, range));
    const uint32_t found = EqualTo(slots, Pack(tag, place));
    if (found == 0) return false;
    uint64_t* slot = slots + std::countr_zero(found);
    Save(slot, Load(slot) & kMark);
    --shard.count;
    return true;
  }
  // False when it was not there.
  bool Erase(uint64_t mixed, Place place);

 private:
  struct Shard {
    Field<uint64_t> range;    // arena reference << 32 | buckets
    Field<uint32_t> version;  // odd while slots move
    uint32_t count = 0;
  };
  static constexpr uint64_t kMark = 1;
  static constexpr uint32_t kTagBits = 63 - kRunBits - kOffsetBits;
  static constexpr uint32_t kTagShift = 64 - kTagBits;
  static constexpr uint32_t kSlots = Arena::kUnitWords;        // of a bucket
  static constexpr uint32_t kMostPassed = (1u << kSlots) - 1;  // and no longer counted

  static Arena::Ref RefOf(uint64_t range) { return static_cast<Arena::Ref>(range >> 32); }
  static uint32_t BucketsOf(uint64_t range) { return static_cast<uint32_t>(range); }
  // Shards grow at different loads, 4.5 to 5.9 of a bucket's 8, so that they do not all grow at
  // once.
  static uint32_t LimitOf(uint32_t shard, uint64_t range) {
    return BucketsOf(range) * (144 + (shard + 11) % 16 * 3) / 32;
  }
  static uint64_t TagOf(uint64_t mixed) { return mixed & ((1u << kTagBits) - 1); }
  static uint64_t Home(uint64_t tag, uint64_t range) {
    return (tag * BucketsOf(range)) >> kTagBits;
  }
  static uint64_t Pack(uint64_t tag, Place place) {
    return tag << kTagShift | uint64_t{place.run} << (kOffsetBits + 1) |
           uint64_t{place.offset} << 1;
  }
  static Place PlaceOf(uint64_t slot) {
    return {static_cast<RunId>(slot >> (kOffsetBits + 1)) & ((1u << kRunBits) - 1),
            static_cast<uint32_t>(slot >> 1) & (kMaxRunBlocks - 1)};
  }
  uint32_t ShardOf(uint64_t mixed) const {
    return static_cast<uint32_t>(mixed >> 40) & (static_cast<uint32_t>(shards_.size()) - 1);
  }
  uint64_t* Bucket(uint64_t range, uint64_t bucket) const {
    return arena_.Words(RefOf(range) + static_cast<Arena::Ref>(bucket));
  }

  // Writer only. EqualTo and Alike: a bit per slot of a bucket; the former whatever its mark.
#ifdef __SSE2__
  static __m128i PairOf(const uint64_t* slots, int pair) {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(slots) + pair);
  }
  static uint32_t EqualTo(const uint64_t* slots, uint64_t value) {
    const __m128i mark = _mm_set1_epi64x(kMark);
    const __m128i wanted = _mm_set1_epi64x(static_cast<int64_t>(value | kMark));
    const auto halves = [&](int pair) {
      return _mm_cmpeq_epi32(_mm_or_si128(PairOf(slots, pair), mark), wanted);
    };
    // A byte per half of a slot.
    const __m128i bytes = _mm_packs_epi16(_mm_packs_epi32(halves(0), halves(1)),
                                          _mm_packs_epi32(halves(2), halves(3)));
    return static_cast<uint32_t>(
        _mm_movemask_epi8(_mm_packs_epi16(_mm_cmpeq_epi16(bytes, _mm_set1_epi16(-1)), bytes)) &
        0xff);
  }
  static uint32_t Alike(const uint64_t* slots, uint64_t tag) {
    const __m128i wanted = _mm_set1_epi32(static_cast<int32_t>(tag));
    const auto tags = [&](int pair) {
      const auto shifted = [&](int at) {
        return _mm_castsi128_ps(_mm_srli_epi64(PairOf(slots, at), kTagShift));
      };
      return _mm_cmpeq_epi32(
          _mm_castps_si128(_mm_shuffle_ps(shifted(pair), shifted(pair + 1), 0x88)), wanted);
    };
    const __m128i words = _mm_packs_epi32(tags(0), tags(2));
    const auto alike =
        static_cast<uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(words, words)) & 0xff);
    return tag != 0 ? alike : alike & ~EqualTo(slots, 0);
  }
  // Whether something went past the bucket.
  static bool Passed(const uint64_t* slots) {
    const __m128i marks = _mm_or_si128(_mm_or_si128(PairOf(slots, 0), PairOf(slots, 1)),
                                       _mm_or_si128(PairOf(slots, 2), PairOf(slots, 3)));
    return _mm_movemask_pd(_mm_castsi128_pd(_mm_slli_epi64(marks, 63))) != 0;
  }
#else
  static uint32_t EqualTo(const uint64_t* slots, uint64_t value) {
    uint32_t mask = 0;
    for (uint32_t i = 0; i < kSlots; ++i)
      mask |= uint32_t{(slots[i] | kMark) == (value | kMark)} << i;
    return mask;
  }
  static uint32_t Alike(const uint64_t* slots, uint64_t tag) {
    uint32_t mask = 0;
    for (uint32_t i = 0; i < kSlots; ++i) {
      mask |= uint32_t{slots[i] > kMark && slots[i] >> kTagShift == tag} << i;
    }
    return mask;
  }
  static bool Passed(const uint64_t* slots) {
    uint64_t marks = 0;
    for (uint32_t i = 0; i < kSlots; ++i) marks |= slots[i];
    return (marks & kMark) != 0;
  }
#endif
  static uint32_t PassedOf(const uint64_t* slots);
  // One more, or one less.
  static void CountPassed(uint64_t* slots, bool more);

  template <typename Each>
  void Probe(uint64_t range, uint64_t mixed, Each each) const {
    const uint32_t buckets = BucketsOf(range);
    if (buckets == 0) return;
    const uint64_t tag = TagOf(mixed);
    uint64_t at = Home(tag, range);
    for (uint32_t steps = 0; steps < buckets; ++steps) {
      const uint64_t* slots = Bucket(range, at);
      uint64_t marks = 0;
      for (uint32_t i = 0; i < kSlots; ++i) {
        const uint64_t slot = Load(slots + i);
        marks |= slot;
        if (slot >> kTagShift == tag && slot > kMark && each(PlaceOf(slot))) return;
      }
      if ((marks & kMark) == 0) return;
      if (++at == buckets) at = 0;
    }
  }

  class Moving;
  bool Resize(Shard& shard, uint32_t buckets);
  bool InsertFar(Shard& shard, uint64_t tag, Place place);
  void Put(Shard& shard, uint64_t tag, Place place) const;

  const uint64_t seed_;
  Arena& arena_;
  std::vector<Shard> shards_;
};

}  // namespace warmpath::index
