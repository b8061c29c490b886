// Lanes: who holds something, where. A lane is one (holder, tier, cache group); coverage of runs is
// kept per lane, in bits.
//
// A holder has a slot. Lanes come in words of 64: all lanes of a word are of the same tier and
// group, and bit i of a word belongs to slot 64 * slot_group(word) + i. So what lanes hold folds
// into what holders hold word by word. A cleared lane is retired: not live any more at once, its
// id used again when no run mentions it.
//
// Changed under the index's writer lock. Readers use the word and slot tables beside a writer and
// trust what they saw when version() was even and is unchanged.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "index/kv_index.h"
#include "index/run.h"

namespace warmpath::index {

struct HolderState {
  Holder holder;
  uint32_t slot = 0;
  struct Named {
    LaneId lane = 0;
    Tier tier = Tier::kGpu;
    uint32_t group = 0;
  };
  std::vector<Named> lanes;
  // Residencies. Read by anyone.
  Field<uint64_t> entries[kTiers];

  uint64_t Entries() const { return entries[0] + entries[1] + entries[2] + entries[3]; }
  // Lanes whose blocks are the same residencies.
  int LanesIn(Tier tier) const {
    int count = 0;
    for (const Named& named : lanes) count += named.tier == tier;
    return count;
  }
};

struct Lane {
  HolderState* holder = nullptr;  // null when retired
  Tier tier = Tier::kGpu;
  uint32_t group = 0;
  uint64_t blocks = 0;      // it covers, over all strands
  uint64_t duplicates = 0;  // blocks with more than one copy
};

class Lanes {
 public:
  static constexpr LaneId kNone = ~LaneId{0};
  static constexpr uint32_t kMaxWords = 1u << 14;
  static constexpr uint32_t kMaxSlots = 1u << 18;
  static constexpr size_t kMaxLanesOfHolder = 64;

  Lanes();

  HolderState* Find(Holder holder);
  LaneId FindLane(const HolderState& holder, Tier tier, uint32_t group) const;
  // Creates what is missing. kNone when there are too many.
  LaneId Obtain(Holder holder, Tier tier, uint32_t group);
  Lane& operator[](LaneId lane) { return lanes_[lane]; }

  // Forgets the lane when it covers nothing any more, and its holder with the last lane.
  void DropIfEmpty(LaneId lane);
  // Ends what the lane covers for readers; runs still mention it until its `blocks` are 0.
  void Retire(LaneId lane);
  uint32_t retired() const { return retired_; }
  bool Live(LaneId lane) const { return (Load(live_ + lane / 64) >> (lane % 64) & 1) != 0; }
  // Ranks of an endpoint, in order.
  std::vector<Holder> HoldersOf(uint32_t endpoint) const;

  // Any thread.
  std::optional<uint32_t> SlotOf(Holder holder) const;
  uint64_t EntriesOf(Holder holder) const;
  uint64_t EntriesOfEndpoint(uint32_t endpoint) const;
  uint32_t version() const { return version_.atomic().load(std::memory_order_acquire); }
  bool Unchanged(uint32_t version) const {
    std::atomic_thread_fence(std::memory_order_acquire);
    return version_ == version;
  }
  uint32_t words() const { return words_; }
  uint32_t slot_groups() const { return slot_groups_; }
  uint64_t live(uint32_t word) const { return Load(live_ + word); }
  uint32_t slot_group(uint32_t word) const {
    return static_cast<uint32_t>(Load(info_ + word) >> 1);
  }
  bool gpu(uint32_t word) const { return (Load(info_ + word) & 1) != 0; }
  // All holders have one lane, in GPU memory.
  bool simple() const { return special_ == 0; }
  Holder holder(uint32_t slot) const {
    const uint64_t packed = Load(holders_ + slot);
    return {static_cast<uint32_t>(packed >> 16), static_cast<uint16_t>(packed)};
  }

  // Slots in the order of their holders, `slots()` of them.
  uint32_t slots() const { return ordered_; }
  uint32_t slot_at(uint32_t rank) const { return static_cast<uint32_t>(Load(order_ + rank)); }

  uint64_t used_bytes() const { return used_bytes_; }

 private:
  class Change;
  static constexpr uint64_t kHolderBytes = sizeof(HolderState) + 128;
  static constexpr uint64_t kLaneBytes = sizeof(Lane) + sizeof(HolderState::Named) + 8;

  static uint64_t Pack(Holder holder) { return uint64_t{holder.endpoint} << 16 | holder.rank; }
  LaneId TakeLane(const HolderState& holder, Tier tier, uint32_t group);
  HolderState* Create(Holder holder);
  void ReleaseSlotOf(LaneId lane);
  // The rank at which a slot is, or would be.
  uint32_t RankOf(uint32_t slot) const;

  struct WordKind {
    Tier tier;
    uint32_t group;
  };
  Reservation tables_;
  uint64_t* live_;     // per word
  uint64_t* info_;     // per word: slot group << 1 | in GPU memory
  uint64_t* holders_;  // per slot
  uint64_t* order_;
  Field<uint32_t> words_, slot_groups_, ordered_, version_, special_;
  std::vector<uint64_t> used_;  // per word: live or retired
  std::vector<WordKind> kinds_;
  std::vector<Lane> lanes_;
  std::vector<uint32_t> free_slots_;
  std::vector<uint32_t> slot_lanes_;  // per slot: lanes in use, retired ones included
  uint32_t slots_ = 0, retired_ = 0;
  uint64_t used_bytes_ = 0;

  mutable SharedMutex mutex_;  // taken by whoever adds or takes away a holder, and by counts
  std::map<uint64_t, std::unique_ptr<HolderState>> by_holder_;
  HolderState* last_ = nullptr;
};

}  // namespace warmpath::index
