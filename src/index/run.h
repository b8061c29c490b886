// Runs: maximal stretches of blocks as one store announced them, and the pool they live in.
//
// A run has the chained keys of its blocks and, as its own strand, the engine hashes most of its
// holders use for them. Holders that use other hashes get further strands: hash columns over a
// stretch of the same run, with coverage of their own. Runs branch: a child is a run whose first
// block follows a block of its parent, wherever that lies. A run is never split; what a holder does
// not have of it is a matter of coverage.
//
// Slots are type-stable. All fields change under the index's writer lock; readers look at the first
// line and the coverage, and trust what they saw when `seq` was even and is unchanged.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "index/memory.h"
#include "kv/types.h"

namespace warmpath::index {

using RunId = uint32_t;  // 0 = none
using LaneId = uint32_t;

inline constexpr int kRunBits = 27;
inline constexpr int kOffsetBits = 13;
inline constexpr uint32_t kMaxRunBlocks = 1u << kOffsetBits;
inline constexpr uint32_t kInlineWords = 2;  // lanes whose bits lie in the run itself: 128

// A field that readers look at while a writer changes it.
template <typename T>
class Field {
 public:
  Field() = default;
  Field(const Field&) = delete;
  operator T() const { return value_.load(std::memory_order_relaxed); }
  Field& operator=(T value) {
    value_.store(value, std::memory_order_relaxed);
    return *this;
  }
  Field& operator=(const Field& other) { return *this = static_cast<T>(other); }
  std::atomic<T>& atomic() { return value_; }
  const std::atomic<T>& atomic() const { return value_; }

 private:
  std::atomic<T> value_{};
};

// Blocks [from, to) of the run, held by a lane.
struct Interval {
  LaneId lane = 0;
  uint32_t from = 0;
  uint32_t to = 0;

  uint64_t Packed() const { return uint64_t{lane} << 32 | uint64_t{from} << 16 | to; }
  static Interval Unpack(uint64_t packed) {
    return {static_cast<LaneId>(packed >> 32), static_cast<uint32_t>(packed >> 16 & 0xffff),
            static_cast<uint32_t>(packed & 0xffff)};
  }
};

struct alignas(128) Run {
  Field<uint32_t> seq;        // odd while a writer is at the run or one of its strands
  Field<Arena::Ref> keys;     // none in a further strand
  Field<kv::BlockKey> head;   // the first key
  Field<uint16_t> base;       // a strand covers blocks [base, end) of its run
  Field<uint16_t> end;        // of the run itself: its length
  Field<RunId> next_strand;   // of the same run
  Field<RunId> hint;          // a child: where the chain usually goes on
  Field<uint32_t> tick;       // when last matched; written by readers too
  Field<uint16_t> intervals;  // how many
  Field<uint16_t> word_count;
  Field<Arena::Ref> words;     // bits of lanes from 128 on that hold all of the strand
  Field<Arena::Ref> interval;  // packed intervals; none while one fits in
  Field<uint16_t> branch;      // blocks before the youngest child: where others often part
  Field<uint64_t> inline_words[kInlineWords];

  Field<uint64_t> inline_interval;
  // From here on for the writer only.
  kv::BlockKey parent_key;
  Arena::Ref hashes;
  uint32_t full;  // lanes that hold all of the strand
  RunId run;      // whose strand this is
  RunId parent;   // none: nobody had the parent when the run began
  uint32_t children;
  uint16_t parent_offset;
  uint16_t max_child;  // no child begins behind a later block
  uint16_t key_units, hash_units, interval_units;
  uint16_t flags;
  uint32_t queued_tick;
  RunId queue_previous, queue_next;
  uint32_t generation;

  enum Flag : uint16_t {
    kLive = 1,
    kTwins = 2,       // one of its hashes names another block, too
    kDuplicates = 4,  // a lane may have more than one copy of a block
    kPinned = 8,
    kQueued = 16,
    kHasParent = 32,
  };
  bool Has(Flag flag) const { return (flags & flag) != 0; }
  void Set(Flag flag) { flags = static_cast<uint16_t>(flags | flag); }
  void Unset(Flag flag) { flags = static_cast<uint16_t>(flags & ~flag); }
  uint32_t length() const { return end; }
};
static_assert(sizeof(Run) == 128);

class RunPool {
 public:
  explicit RunPool(uint32_t max_runs);

  Run& operator[](RunId id) const { return runs_.As<Run>()[id]; }
  RunId IdOf(const Run& run) const { return static_cast<RunId>(&run - runs_.As<Run>()); }
  // 0 when all are taken.
  RunId Allocate();
  // Of one whose coverage and arrays were given back.
  void Free(RunId id);

  // Every id in use is below. Readers bound what they read by max_runs().
  RunId top() const { return top_; }
  uint32_t max_runs() const { return max_runs_; }
  uint64_t used_bytes() const { return uint64_t{used_} * sizeof(Run); }

 private:
  const uint32_t max_runs_;
  Reservation runs_;
  RunId top_ = 1;
  RunId free_ = 0;
  uint32_t used_ = 0;
};

// Keeps readers out of a run and its strands while it lives. Nests.
class Changing {
 public:
  explicit Changing(Run& run) : run_(run) {
    const uint32_t seq = run.seq;
    if ((seq & 1) != 0) return;
    outermost_ = true;
    run.seq = seq + 1;
    std::atomic_thread_fence(std::memory_order_release);
  }
  ~Changing() {
    if (outermost_) run_.seq.atomic().store(run_.seq + 1, std::memory_order_release);
  }
  Changing(const Changing&) = delete;
  Changing& operator=(const Changing&) = delete;

 private:
  Run& run_;
  bool outermost_ = false;
};

}  // namespace warmpath::index
