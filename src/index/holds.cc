#include "index/holds.h"

#include <algorithm>

namespace warmpath::index {

uint64_t Holds::Add(uint64_t packed_holder, std::span<const kv::BlockKey> keys) {
  if (keys.empty()) return 0;
  auto entry = std::make_unique<Entry>();
  entry->packed_holder = packed_holder;
  entry->keys.assign(keys.begin(), keys.end());
  WriterLock lock(mutex_);
  const uint64_t room = budget_bytes_ > bytes_ ? budget_bytes_ - bytes_ : 0;
  if (room < kEntryBytes + sizeof(kv::BlockKey)) return 0;
  const uint64_t fitting = (room - kEntryBytes) / sizeof(kv::BlockKey);
  if (entry->keys.size() > fitting) {
    entry->keys.resize(fitting);
    entry->keys.shrink_to_fit();
  }
  bytes_ += kEntryBytes + entry->keys.size() * sizeof(kv::BlockKey);
  entry->id = next_id_++;
  const uint64_t id = entry->id;
  by_first_key_[entry->keys.front()].push_back(entry.get());
  by_id_.emplace(id, std::move(entry));
  count_.store(by_id_.size(), std::memory_order_relaxed);
  return id;
}

void Holds::Release(uint64_t id) {
  std::unique_ptr<Entry> entry;  // freed after the lock
  WriterLock lock(mutex_);
  const auto it = by_id_.find(id);
  if (it == by_id_.end()) return;
  entry = std::move(it->second);
  by_id_.erase(it);
  count_.store(by_id_.size(), std::memory_order_relaxed);
  bytes_ -= kEntryBytes + entry->keys.size() * sizeof(kv::BlockKey);
  const auto list = by_first_key_.find(entry->keys.front());
  std::erase(list->second, entry.get());
  if (list->second.empty()) by_first_key_.erase(list);
}

std::vector<Holds::Cover> Holds::Match(std::span<const kv::BlockKey> keys) const {
  std::vector<Cover> covers;
  if (keys.empty()) return covers;
  ReaderLock lock(mutex_);
  const auto list = by_first_key_.find(keys.front());
  if (list == by_first_key_.end()) return covers;
  for (const Entry* entry : list->second) {
    const auto& held = entry->keys;
    // Equal keys at a position mean equal keys before it, so the end of the common prefix can be
    // bisected.
    size_t low = 1, high = std::min(held.size(), keys.size());
    while (low < high) {
      const size_t middle = (low + high + 1) / 2;
      if (held[middle - 1] == keys[middle - 1]) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    covers.push_back({entry->packed_holder, static_cast<uint32_t>(low)});
  }
  std::sort(covers.begin(), covers.end(), [](const Cover& a, const Cover& b) {
    return a.packed_holder != b.packed_holder ? a.packed_holder < b.packed_holder
                                              : a.blocks > b.blocks;
  });
  const auto same = [](const Cover& a, const Cover& b) {
    return a.packed_holder == b.packed_holder;
  };
  covers.erase(std::unique(covers.begin(), covers.end(), same), covers.end());
  return covers;
}

uint64_t Holds::bytes() const {
  ReaderLock lock(mutex_);
  return bytes_;
}

uint64_t Holds::size() const {
  ReaderLock lock(mutex_);
  return by_id_.size();
}

}  // namespace warmpath::index
