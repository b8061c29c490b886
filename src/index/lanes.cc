#include "index/lanes.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace warmpath::index {
namespace {

// All it holds is in GPU memory, under one lane.
bool IsPlain(const HolderState& holder) {
  return holder.lanes.empty() ||
         (holder.lanes.size() == 1 && holder.lanes.front().tier == Tier::kGpu);
}

}  // namespace

// Keeps readers from trusting the tables while it lives.
class Lanes::Change {
 public:
  explicit Change(Lanes& lanes) : lanes_(lanes) {
    lanes_.version_ = lanes_.version_ + 1;
    std::atomic_thread_fence(std::memory_order_release);
  }
  ~Change() { lanes_.version_.atomic().store(lanes_.version_ + 1, std::memory_order_release); }
  Change(const Change&) = delete;
  Change& operator=(const Change&) = delete;

 private:
  Lanes& lanes_;
};

Lanes::Lanes()
    : tables_((2 * kMaxWords + 2 * kMaxSlots) * sizeof(uint64_t)),
      live_(tables_.As<uint64_t>()),
      info_(live_ + kMaxWords),
      holders_(info_ + kMaxWords),
      order_(holders_ + kMaxSlots) {}

HolderState* Lanes::Find(Holder holder) {
  if (last_ != nullptr && last_->holder == holder) return last_;
  const auto it = by_holder_.find(Pack(holder));
  if (it == by_holder_.end()) return nullptr;
  return last_ = it->second.get();
}

LaneId Lanes::FindLane(const HolderState& holder, Tier tier, uint32_t group) const {
  for (const HolderState::Named& named : holder.lanes) {
    if (named.tier == tier && named.group == group) return named.lane;
  }
  return kNone;
}

HolderState* Lanes::Create(Holder holder) {
  uint32_t slot = 0;
  if (!free_slots_.empty()) {
    // The smallest first: slots tend to be in the order of holders, which is that of results.
    std::pop_heap(free_slots_.begin(), free_slots_.end(), std::greater<>());
    slot = free_slots_.back();
    free_slots_.pop_back();
  } else if (slots_ < kMaxSlots) {
    slot = slots_++;
    slot_lanes_.push_back(0);
    slot_groups_ = slots_ / 64 + 1;
  } else {
    return nullptr;
  }
  Save(holders_ + slot, Pack(holder));
  const uint32_t rank = RankOf(slot);
  for (uint32_t i = ordered_; i > rank; --i) Save(order_ + i, Load(order_ + i - 1));
  Save(order_ + rank, slot);
  ordered_ = ordered_ + 1;
  auto state = std::make_unique<HolderState>();
  state->holder = holder;
  state->slot = slot;
  used_bytes_ += kHolderBytes;
  HolderState* created = state.get();
  WriterLock lock(mutex_);
  by_holder_.emplace(Pack(holder), std::move(state));
  return created;
}

LaneId Lanes::TakeLane(const HolderState& holder, Tier tier, uint32_t group) {
  const uint32_t slot_group = holder.slot / 64, bit = holder.slot % 64;
  uint32_t word = 0;
  for (; word < words_; ++word) {
    if (this->slot_group(word) == slot_group && kinds_[word].tier == tier &&
        kinds_[word].group == group && (used_[word] >> bit & 1) == 0) {
      break;
    }
    if (used_[word] != 0) continue;
    kinds_[word] = {tier, group};  // nobody's any more
    break;
  }
  if (word == kMaxWords) return kNone;
  if (word == words_) {
    kinds_.push_back({tier, group});
    used_.push_back(0);
    lanes_.resize(lanes_.size() + 64);
    words_ = word + 1;
  }
  Save(info_ + word, uint64_t{slot_group} << 1 | (tier == Tier::kGpu ? 1 : 0));
  used_[word] |= uint64_t{1} << bit;
  Save(live_ + word, Load(live_ + word) | uint64_t{1} << bit);
  return word * 64 + bit;
}

LaneId Lanes::Obtain(Holder holder, Tier tier, uint32_t group) {
  HolderState* state = Find(holder);
  if (state != nullptr) {
    if (const LaneId lane = FindLane(*state, tier, group); lane != kNone) return lane;
    if (state->lanes.size() >= kMaxLanesOfHolder) return kNone;
  }
  Change change(*this);
  if (state == nullptr && (state = Create(holder)) == nullptr) return kNone;
  const LaneId lane = TakeLane(*state, tier, group);
  if (lane == kNone) return kNone;
  lanes_[lane] = {state, tier, group, 0, 0};
  const bool plain = IsPlain(*state);
  state->lanes.push_back({lane, tier, group});
  special_ = special_ + plain - IsPlain(*state);
  ++slot_lanes_[state->slot];
  used_bytes_ += kLaneBytes;
  return lane;
}

uint32_t Lanes::RankOf(uint32_t slot) const {
  uint32_t low = 0;
  for (uint32_t high = ordered_; low < high;) {
    const uint32_t middle = (low + high) / 2;
    const uint32_t other = slot_at(middle);
    const uint64_t a = Load(holders_ + other), b = Load(holders_ + slot);
    if (a < b || (a == b && other < slot)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

void Lanes::ReleaseSlotOf(LaneId lane) {
  const uint32_t slot = slot_group(lane / 64) * 64 + lane % 64;
  if (--slot_lanes_[slot] == 0) {
    ordered_ = ordered_ - 1;
    for (uint32_t i = RankOf(slot); i < ordered_; ++i) Save(order_ + i, Load(order_ + i + 1));
    free_slots_.push_back(slot);
    std::push_heap(free_slots_.begin(), free_slots_.end(), std::greater<>());
  }
}

void Lanes::DropIfEmpty(LaneId lane) {
  if (lanes_[lane].blocks == 0 && (used_[lane / 64] >> (lane % 64) & 1) != 0) Retire(lane);
}

void Lanes::Retire(LaneId id) {
  Change change(*this);
  Lane& lane = lanes_[id];
  const uint32_t word = id / 64;
  const uint64_t bit = uint64_t{1} << (id % 64);
  if (HolderState* holder = lane.holder; holder != nullptr) {
    const bool plain = IsPlain(*holder);
    std::erase_if(holder->lanes, [&](const auto& named) { return named.lane == id; });
    special_ = special_ + plain - IsPlain(*holder);
    lane.holder = nullptr;
    Save(live_ + word, Load(live_ + word) & ~bit);
    used_bytes_ -= kLaneBytes;
    ++retired_;
    if (holder->lanes.empty()) {
      if (last_ == holder) last_ = nullptr;
      used_bytes_ -= kHolderBytes;
      WriterLock lock(mutex_);
      by_holder_.erase(Pack(holder->holder));
    }
  }
  if (lane.blocks == 0) {
    used_[word] &= ~bit;
    --retired_;
    ReleaseSlotOf(id);
  }
}

std::vector<Holder> Lanes::HoldersOf(uint32_t endpoint) const {
  std::vector<Holder> holders;
  for (auto it = by_holder_.lower_bound(Pack({endpoint, 0}));
       it != by_holder_.end() && it->second->holder.endpoint == endpoint; ++it) {
    holders.push_back(it->second->holder);
  }
  return holders;
}

std::optional<uint32_t> Lanes::SlotOf(Holder holder) const {
  ReaderLock lock(mutex_);
  const auto it = by_holder_.find(Pack(holder));
  if (it == by_holder_.end()) return std::nullopt;
  return it->second->slot;
}

uint64_t Lanes::EntriesOf(Holder holder) const {
  ReaderLock lock(mutex_);
  const auto it = by_holder_.find(Pack(holder));
  return it == by_holder_.end() ? 0 : it->second->Entries();
}

uint64_t Lanes::EntriesOfEndpoint(uint32_t endpoint) const {
  uint64_t entries = 0;
  ReaderLock lock(mutex_);
  for (auto it = by_holder_.lower_bound(Pack({endpoint, 0}));
       it != by_holder_.end() && it->second->holder.endpoint == endpoint; ++it) {
    entries += it->second->Entries();
  }
  return entries;
}

}  // namespace warmpath::index
