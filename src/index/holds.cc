#include "index/holds.h"

#include <algorithm>

namespace warmpath::index {
namespace {

// How many keys are the same, the first ones being: equal at a place means equal before it.
size_t CommonPrefix(std::span<const kv::BlockKey> a, std::span<const kv::BlockKey> b) {
  size_t low = 1, high = std::min(a.size(), b.size());
  if (a[high - 1] == b[high - 1]) return high;
  while (low < high) {
    const size_t middle = (low + high + 1) / 2;
    if (a[middle - 1] == b[middle - 1]) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace

Holds::Node* Holds::Find(kv::BlockKey first) const {
  const auto it = by_first_key_.find(first);
  return it == by_first_key_.end() ? nullptr : it->second.get();
}

Holds::Node* Holds::AddNode(Node* parent, std::span<const kv::BlockKey> keys) {
  auto added = std::make_unique<Node>();
  Node* node = added.get();
  node->parent = parent;
  node->keys.assign(keys.begin(), keys.end());
  if (parent != nullptr) {
    ++parent->children;
    parent->child ^= reinterpret_cast<uintptr_t>(node);
  }
  bytes_ += BytesOf(*node);
  by_first_key_[keys.front()] = std::move(added);
  return node;
}

void Holds::RemoveNode(Node* node) {
  if (Node* parent = node->parent; parent != nullptr) {
    --parent->children;
    parent->child ^= reinterpret_cast<uintptr_t>(node);
  }
  bytes_ -= BytesOf(*node);
  by_first_key_.erase(node->keys.front());
}

// The node stays the lower part: its children and the holds that end at it point to it.
Holds::Node* Holds::Split(Node* node, size_t at) {
  bytes_ -= BytesOf(*node);
  auto lower = std::move(by_first_key_.find(node->keys.front())->second);
  Node* parent = node->parent;
  if (parent != nullptr) {
    --parent->children;
    parent->child ^= reinterpret_cast<uintptr_t>(node);
  }
  Node* upper = AddNode(parent, std::span(node->keys).first(at));
  bytes_ -= BytesOf(*upper);
  upper->holders = node->holders;
  upper->holds = node->holds;
  upper->children = 1;
  upper->child = reinterpret_cast<uintptr_t>(node);
  node->parent = upper;
  node->keys = std::vector<kv::BlockKey>(node->keys.begin() + static_cast<std::ptrdiff_t>(at),
                                         node->keys.end());
  bytes_ += BytesOf(*upper) + BytesOf(*node);
  by_first_key_[node->keys.front()] = std::move(lower);
  return upper;
}

void Holds::Join(Node* node) {
  if (node->children != 1) return;
  Node* lower = reinterpret_cast<Node*>(node->child);  // NOLINT(performance-no-int-to-ptr)
  if (lower->holds != node->holds) return;
  bytes_ -= BytesOf(*node) + BytesOf(*lower);
  auto kept = std::move(by_first_key_.find(lower->keys.front())->second);
  by_first_key_.erase(lower->keys.front());
  std::vector<kv::BlockKey> keys;
  keys.reserve(node->keys.size() + lower->keys.size());
  keys.insert(keys.end(), node->keys.begin(), node->keys.end());
  keys.insert(keys.end(), lower->keys.begin(), lower->keys.end());
  lower->keys = std::move(keys);
  lower->parent = node->parent;
  if (lower->parent != nullptr) {
    lower->parent->child ^= reinterpret_cast<uintptr_t>(node) ^ reinterpret_cast<uintptr_t>(lower);
  }
  bytes_ += BytesOf(*lower);
  by_first_key_[lower->keys.front()] = std::move(kept);  // ends `node`
}

void Holds::Count(Node* node, uint64_t packed_holder) {
  bytes_ -= BytesOf(*node);
  ++node->holds;
  const auto at = std::lower_bound(
      node->holders.begin(), node->holders.end(), packed_holder,
      [](const Through& through, uint64_t holder) { return through.packed_holder < holder; });
  if (at != node->holders.end() && at->packed_holder == packed_holder) {
    ++at->holds;
  } else {
    node->holders.insert(at, {packed_holder, 1});
  }
  bytes_ += BytesOf(*node);
}

void Holds::Uncount(Node* node, uint64_t packed_holder) {
  --node->holds;
  const auto at = std::lower_bound(
      node->holders.begin(), node->holders.end(), packed_holder,
      [](const Through& through, uint64_t holder) { return through.packed_holder < holder; });
  if (--at->holds == 0) node->holders.erase(at);
}

uint64_t Holds::Add(uint64_t packed_holder, std::span<const kv::BlockKey> keys) {
  if (keys.empty()) return 0;
  WriterLock lock(mutex_);
  Node* end = nullptr;
  uint64_t reserved = kHoldBytes;  // for what counting the hold may take on the way
  for (size_t at = 0; at < keys.size();) {
    const uint64_t room = Room();
    Node* node = Find(keys[at]);
    if (node == nullptr) {
      const uint64_t fixed = reserved + kNodeBytes + 2 * sizeof(Through);
      if (room < fixed + sizeof(kv::BlockKey)) break;
      const size_t fitting = (room - fixed) / sizeof(kv::BlockKey);
      end = AddNode(end, keys.subspan(at, std::min(fitting, keys.size() - at)));
      break;
    }
    if (node->parent != end) break;
    const size_t same = CommonPrefix(node->keys, keys.subspan(at));
    // A holder new to a node may double its list.
    reserved += (node->holders.size() + 1) * 2 * sizeof(Through);
    if (same < node->keys.size()) {
      if (room < reserved + kNodeBytes + node->holders.size() * sizeof(Through)) break;
      node = Split(node, same);
    } else if (room < reserved) {
      break;
    }
    end = node;
    at += same;
  }
  if (end == nullptr) return 0;
  const uint64_t id = next_id_++;
  by_id_.emplace(id, Hold{end, packed_holder});
  bytes_ += kHoldBytes;
  count_.store(by_id_.size(), std::memory_order_relaxed);
  for (Node* node = end; node != nullptr; node = node->parent) Count(node, packed_holder);
  return id;
}

void Holds::Release(uint64_t id) {
  WriterLock lock(mutex_);
  const auto it = by_id_.find(id);
  if (it == by_id_.end()) return;
  const Hold hold = it->second;
  by_id_.erase(it);
  bytes_ -= kHoldBytes;
  count_.store(by_id_.size(), std::memory_order_relaxed);
  // Twice as many nodes as holds are enough for any trie; more are joined on the way.
  const bool join = by_first_key_.size() > 4 * by_id_.size() + 64;
  for (Node* node = hold.end; node != nullptr;) {
    Node* parent = node->parent;
    Uncount(node, hold.packed_holder);
    if (node->holds == 0) {
      RemoveNode(node);
    } else if (join) {
      Join(node);
    }
    node = parent;
  }
}

void Holds::Match(std::span<const kv::BlockKey> keys, std::vector<Cover>& covers) const {
  covers.clear();
  const Node* above = nullptr;
  ReaderLock lock(mutex_);
  for (size_t at = 0; at < keys.size();) {
    const Node* node = Find(keys[at]);
    if (node == nullptr || node->parent != above) return;
    const size_t same = CommonPrefix(node->keys, keys.subspan(at));
    const auto reached = static_cast<uint32_t>(at + same);
    if (at == 0) {
      for (const Through& through : node->holders) {
        covers.push_back({through.packed_holder, reached});
      }
    } else {
      // Whoever goes through a node goes through its parent.
      auto cover = covers.begin();
      for (const Through& through : node->holders) {
        while (cover != covers.end() && cover->packed_holder < through.packed_holder) ++cover;
        if (cover == covers.end()) break;
        if (cover->packed_holder == through.packed_holder) cover->blocks = reached;
      }
    }
    if (same < node->keys.size()) return;
    above = node;
    at += same;
  }
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
