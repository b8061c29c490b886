// Hash value -> places in runs: the index's only tables (engine hashes, first keys of runs).
//
// Open addressing in shards of buckets, a cache line of 8 slots {23-bit tag, 27-bit run, 13-bit
// offset, mark} each; what does not fit into its bucket goes into the next that has room. A
// bucket's last mark says whether something went past it, the others are the bits of how many more
// did. So a search knows where to end, and nothing has to move when something is erased. A slot's
// bucket follows from its tag, so a shard grows by one sweep over its own slots, without looking at
// what they stand for; shards are small and grow at different times, so growth is never a stall.
// What a slot names has to be verified by the caller.
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

  // Where a value's bucket is, or was: the table may have grown since.
  struct Seat;
  // The bucket is on its way into the cache from now on. Sixteen at a time are a good number.
  Seat Fetch(uint64_t mixed);
  // Some time later: the next bucket, too, when something went past the first one.
  static void FetchPassed(const Seat& seat);
  // Or when it looks full.
  static void FetchMore(const Seat& seat);

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
      for (uint32_t alike = Look(slots, tag).alike; alike != 0; alike &= alike - 1) {
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
  // Inserts if that needs no growth and nothing in the way might be of the same value, too.
  bool InsertAlone(const Seat& seat, Place place);
  // Erases what is in its own bucket.
  bool EraseAlone(const Seat& seat, Place place);
  // False when it was not there.
  bool Erase(uint64_t mixed, Place place);

 private:
  struct Shard {
    Field<uint64_t> range;    // arena reference << 32 | buckets
    Field<uint32_t> version;  // odd while slots move
    uint32_t count = 0;
    uint32_t limit = 0;  // of the count, before it has to grow
  };
  static constexpr uint64_t kMark = 1;
  static constexpr uint32_t kTagBits = 63 - kRunBits - kOffsetBits;
  static constexpr uint32_t kTagShift = 64 - kTagBits;
  static constexpr uint32_t kSlots = Arena::kUnitWords;  // of a bucket

  static Arena::Ref RefOf(uint64_t range) { return static_cast<Arena::Ref>(range >> 32); }
  static uint32_t BucketsOf(uint64_t range) { return static_cast<uint32_t>(range); }
  // Shards grow at different loads, 4 to 5.4 of a bucket's 8, so that they do not all grow at
  // once.
  static uint32_t LimitOf(uint32_t shard, uint64_t range) {
    return BucketsOf(range) * (128 + (shard + 11) % 16 * 3) / 32;
  }
  // Never 0, which is an empty slot's.
  static uint64_t TagOf(uint64_t mixed) {
    const uint64_t tag = mixed & ((1u << kTagBits) - 1);
    return tag + (tag == 0 ? 1 : 0);
  }
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
    return static_cast<uint32_t>(mixed >> 40) & last_shard_;
  }
  uint64_t* Bucket(uint64_t range, uint64_t bucket) const {
    return arena_.Words(RefOf(range) + static_cast<Arena::Ref>(bucket));
  }

  // Writer only. A bit per slot of a bucket.
  struct Seen {
    uint32_t alike, empty;
  };
#ifdef __SSE2__
  static __m128i PairOf(const uint64_t* slots, int pair) {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(slots) + pair);
  }
  // The upper (1) or lower (0) halves of two pairs of slots.
  template <int upper>
  static __m128i Halves(__m128i a, __m128i b) {
    return _mm_castps_si128(
        _mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), upper == 1 ? 0xdd : 0x88));
  }
  static Seen Look(const uint64_t* slots, uint64_t tag) {
    const auto tags = [&](int pair) {
      return _mm_srli_epi32(Halves<1>(PairOf(slots, pair), PairOf(slots, pair + 1)),
                            kTagShift - 32);
    };
    const __m128i first = tags(0), last = tags(2), none = _mm_setzero_si128();
    const __m128i wanted = _mm_set1_epi32(static_cast<int32_t>(tag));
    const __m128i alike =
        _mm_packs_epi32(_mm_cmpeq_epi32(first, wanted), _mm_cmpeq_epi32(last, wanted));
    const __m128i empty =
        _mm_packs_epi32(_mm_cmpeq_epi32(first, none), _mm_cmpeq_epi32(last, none));
    const auto bits = static_cast<uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(alike, empty)));
    return {bits & 0xff, bits >> 8};
  }
  // Where `wanted` is, whatever the mark.
  static uint64_t* FindSlot(uint64_t* slots, uint64_t wanted) {
    const __m128i mark = _mm_set1_epi32(kMark);
    const __m128i lower = _mm_set1_epi32(static_cast<int32_t>(wanted | kMark));
    const auto equal = [&](int pair) {
      const __m128i halves = Halves<0>(PairOf(slots, pair), PairOf(slots, pair + 1));
      return _mm_cmpeq_epi32(_mm_or_si128(halves, mark), lower);
    };
    const __m128i words = _mm_packs_epi32(equal(0), equal(2));
    auto bits = static_cast<uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(words, words)) & 0xff);
    for (; bits != 0; bits &= bits - 1) {
      uint64_t* slot = slots + std::countr_zero(bits);
      if ((Load(slot) & ~kMark) == wanted) return slot;
    }
    return nullptr;
  }
#else
  static Seen Look(const uint64_t* slots, uint64_t tag) {
    Seen seen{};
    for (uint32_t i = 0; i < kSlots; ++i) {
      seen.alike |= uint32_t{slots[i] >> kTagShift == tag} << i;
      seen.empty |= uint32_t{slots[i] <= kMark} << i;
    }
    return seen;
  }
  static uint64_t* FindSlot(uint64_t* slots, uint64_t wanted) {
    for (uint32_t i = 0; i < kSlots; ++i) {
      if ((slots[i] & ~kMark) == wanted) return slots + i;
    }
    return nullptr;
  }
#endif
  // Whether something went past the bucket.
  static bool Passed(const uint64_t* slots) { return (Load(slots + kSlots - 1) & kMark) != 0; }
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
      uint64_t slot = 0;
      for (uint32_t i = 0; i < kSlots; ++i) {
        slot = Load(slots + i);
        if (slot >> kTagShift == tag && each(PlaceOf(slot))) return;
      }
      if ((slot & kMark) == 0) return;
      if (++at == buckets) at = 0;
    }
  }

  class Moving;
  bool Resize(Shard& shard, uint32_t buckets);
  // Into the first bucket with room. `alone`: false when something in the way is of the same tag.
  bool InsertFar(Shard& shard, uint64_t tag, Place place, bool alone);

  const uint64_t seed_;
  Arena& arena_;
  const uint32_t last_shard_;
  std::vector<Shard> shards_;
};

struct PlaceTable::Seat {
  Shard* shard;
  uint64_t range;
  uint64_t* slots;
  uint64_t tag;
};

inline PlaceTable::Seat PlaceTable::Fetch(uint64_t mixed) {
  Shard& shard = shards_[ShardOf(mixed)];
  const uint64_t range = shard.range, tag = TagOf(mixed);
  uint64_t* slots = Bucket(range, Home(tag, range));
  __builtin_prefetch(slots);
  return {&shard, range, slots, tag};
}

inline void PlaceTable::FetchMore(const Seat& seat) {
  __builtin_prefetch(seat.slots + (Load(seat.slots + kSlots - 1) != 0 ? kSlots : 0));
}

inline void PlaceTable::FetchPassed(const Seat& seat) {
  __builtin_prefetch(seat.slots + (Passed(seat.slots) ? kSlots : 0));
}

inline bool PlaceTable::InsertAlone(const Seat& seat, Place place) {
  Shard& shard = *seat.shard;
  if (shard.range != seat.range || shard.count >= shard.limit) return false;
  const Seen seen = Look(seat.slots, seat.tag);
  if (seen.empty == 0 || Passed(seat.slots)) return InsertFar(shard, seat.tag, place, true);
  if (seen.alike != 0) return false;
  Save(seat.slots + std::countr_zero(seen.empty), Pack(seat.tag, place));
  ++shard.count;
  return true;
}

inline bool PlaceTable::EraseAlone(const Seat& seat, Place place) {
  Shard& shard = *seat.shard;
  if (shard.range != seat.range || shard.count <= shard.limit / 4) return false;
  uint64_t* slot = FindSlot(seat.slots, Pack(seat.tag, place));
  if (slot == nullptr) return false;
  Save(slot, Load(slot) & kMark);
  --shard.count;
  return true;
}

}  // namespace warmpath::index
