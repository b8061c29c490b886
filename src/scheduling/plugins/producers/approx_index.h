// Which endpoint was sent which block of a prompt: per endpoint the newest `capacity` keys, and for
// each key its holders. About 32 bytes per (endpoint, key); bounded by `max_entries` in all.
//
// Owned by approx-prefix-cache-producer. Thread-safe: matching shares a lock, storing takes it for
// at most kBatch keys at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "fleet/endpoint.h"

namespace warmpath::scheduling {

class ApproxIndex {
 public:
  static constexpr size_t kBatch = 256;

  explicit ApproxIndex(size_t max_entries);

  // How many keys from the first one on each endpoint holds. Keys must be well mixed; `now` is when
  // the endpoints were last seen.
  std::vector<uint32_t> Match(std::span<const uint64_t> chain,
                              std::span<const fleet::EndpointId> endpoints, TimePoint now) const;
  // The endpoint was sent these keys. Its oldest give way beyond `capacity` (at least 1), the first
  // keys of a chain last.
  void Store(fleet::EndpointId endpoint, std::span<const uint64_t> chain, size_t capacity,
             TimePoint now);
  // Forgets endpoints not seen since `since`.
  void Sweep(TimePoint since);
  size_t size() const;  // (endpoint, key) entries

 private:
  static constexpr uint32_t kNone = ~uint32_t{0};
  struct Node {
    uint64_t key;
    uint32_t server;
    uint32_t newer, older;  // of the same server
    uint32_t next_holder;   // of the same key
  };
  struct Server {
    fleet::EndpointId endpoint = 0;
    uint32_t newest = kNone, oldest = kNone;
    size_t size = 0;
    mutable std::atomic<Duration::rep> seen{0};
  };

  size_t SlotOf(uint64_t key) const REQUIRES_SHARED(mutex_);
  void EraseSlot(size_t slot) REQUIRES(mutex_);
  void Grow() REQUIRES(mutex_);
  void Touch(uint32_t server, uint64_t key, size_t capacity) REQUIRES(mutex_);
  void LinkNewest(uint32_t node) REQUIRES(mutex_);
  void UnlinkAge(uint32_t node) REQUIRES(mutex_);
  void Drop(uint32_t node) REQUIRES(mutex_);
  uint32_t ServerOf(fleet::EndpointId endpoint) REQUIRES(mutex_);

  const size_t max_entries_;
  mutable SharedMutex mutex_;
  std::vector<Node> nodes_ GUARDED_BY(mutex_);
  std::vector<uint32_t> free_nodes_ GUARDED_BY(mutex_);
  std::vector<uint32_t> table_ GUARDED_BY(mutex_);  // first holder by key, open addressing
  size_t keys_ GUARDED_BY(mutex_) = 0;
  size_t entries_ GUARDED_BY(mutex_) = 0;
  std::vector<std::unique_ptr<Server>> servers_ GUARDED_BY(mutex_);  // null: free
  std::unordered_map<fleet::EndpointId, uint32_t> server_of_ GUARDED_BY(mutex_);
};

}  // namespace warmpath::scheduling
