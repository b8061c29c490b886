// Speculative blocks: for each request in flight, the chain its endpoint will hold once it has
// prefilled.
//
// A trie of the chains held, its edges as long as can be; each node counts, per holder, the holds
// that go through all of it. What requests have in common is kept once, and a lookup costs the same
// for ten holds as for ten thousand. Owned by KvIndex; thread-safe, readers share a lock. Bounded
// by `budget_bytes`.
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
  void Match(std::span<const kv::BlockKey> keys, std::vector<Cover>& covers) const;

  uint64_t bytes() const;
  uint64_t size() const;
  bool empty() const { return count_.load(std::memory_order_relaxed) == 0; }

 private:
  struct Through {
    uint64_t packed_holder = 0;
    uint32_t holds = 0;
  };
  struct Node {
    Node* parent = nullptr;
    std::vector<kv::BlockKey> keys;
    std::vector<Through> holders;  // ordered by holder
    uint32_t holds = 0;            // in all that go through
    uint32_t children = 0;
    uintptr_t child = 0;  // all children's addresses combined by xor: the child, when it is one
  };
  struct Hold {
    Node* end = nullptr;
    uint64_t packed_holder = 0;
  };
  // With their table slots and malloc headers; a node's keys and holders come on top.
  static constexpr uint64_t kNodeBytes = sizeof(Node) + 96;
  static constexpr uint64_t kHoldBytes = sizeof(Hold) + 64;

  static uint64_t BytesOf(const Node& node) {
    return kNodeBytes + node.keys.capacity() * sizeof(kv::BlockKey) +
           node.holders.capacity() * sizeof(Through);
  }
  uint64_t Room() const REQUIRES_SHARED(mutex_) {
    return budget_bytes_ > bytes_ ? budget_bytes_ - bytes_ : 0;
  }
  Node* Find(kv::BlockKey first) const REQUIRES_SHARED(mutex_);
  Node* AddNode(Node* parent, std::span<const kv::BlockKey> keys) REQUIRES(mutex_);
  void RemoveNode(Node* node) REQUIRES(mutex_);
  // Cuts the node before its key `at`; returns the node of the keys before, its new parent.
  Node* Split(Node* node, size_t at) REQUIRES(mutex_);
  // Joins the node with its only child, when no hold ends between them.
  void Join(Node* node) REQUIRES(mutex_);
  void Count(Node* node, uint64_t packed_holder) REQUIRES(mutex_);
  void Uncount(Node* node, uint64_t packed_holder) REQUIRES(mutex_);

  const uint64_t budget_bytes_;
  std::atomic<uint64_t> count_{0};
  mutable SharedMutex mutex_;
  uint64_t bytes_ GUARDED_BY(mutex_) = 0;
  uint64_t next_id_ GUARDED_BY(mutex_) = 1;
  std::unordered_map<uint64_t, Hold> by_id_ GUARDED_BY(mutex_);
  std::unordered_map<kv::BlockKey, std::unique_ptr<Node>> by_first_key_ GUARDED_BY(mutex_);
};

}  // namespace warmpath::index
