// Speculative blocks: for each request in flight, the chain its endpoint will hold once it has
// prefilled.
//
// A hold is a copy of the request's keys. Keys are chained, so a hold covers a query exactly up to
// their common prefix: no per-block entries are needed. Owned by KvIndex; thread-safe, readers
// share a lock. Bounded by `budget_bytes`.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "kv/types.h"

namespace warmpath::index {

class Holds {
 public:
  explicit Holds(uint64_t budget_bytes) : budget_bytes_(budget_bytes) {}

  // Returns 0 when not even one key fits; keys beyond the budget are left out.
  uint64_t Add(uint64_t packed_holder, std::span<const kv::BlockKey> keys);
  void Release(uint64_t id);

  struct Cover {
    uint64_t packed_holder = 0;
    uint32_t blocks = 0;
  };
  // The longest common prefix of `keys` with a hold, per holder that has one; ordered by holder.
  std::vector<Cover> Match(std::span<const kv::BlockKey> keys) const;

  uint64_t bytes() const;
  uint64_t size() const;
  bool empty() const { return count_.load(std::memory_order_relaxed) == 0; }

 private:
  struct Entry {
    uint64_t id = 0;
    uint64_t packed_holder = 0;
    std::vector<kv::BlockKey> keys;
  };
  // Entry, its two table slots and malloc headers; the keys come on top.
  static constexpr uint64_t kEntryBytes = sizeof(Entry) + 128;

  const uint64_t budget_bytes_;
  std::atomic<uint64_t> count_{0};
  mutable SharedMutex mutex_;
  uint64_t bytes_ GUARDED_BY(mutex_) = 0;
  uint64_t next_id_ GUARDED_BY(mutex_) = 1;
  std::unordered_map<uint64_t, std::unique_ptr<Entry>> by_id_ GUARDED_BY(mutex_);
  std::unordered_map<kv::BlockKey, std::vector<Entry*>> by_first_key_ GUARDED_BY(mutex_);
};

}  // namespace warmpath::index
