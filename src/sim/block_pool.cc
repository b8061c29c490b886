#include "sim/block_pool.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace warmpath::sim {

BlockPool::BlockPool(uint32_t blocks, uint32_t block_size, bool reuse_empty_first)
    : block_size_(block_size),
      reuse_empty_first_(reuse_empty_first),
      slots_(std::max<uint32_t>(blocks, 2)) {
  for (BlockId id = 1; id < slots_.size(); ++id) Link(id, 0);
}

std::vector<BlockPool::BlockId> BlockPool::FindPrefix(std::span<const BlockHash> hashes) const {
  std::vector<BlockId> found;
  for (const BlockHash& hash : hashes) {
    auto it = by_hash_.find(hash);
    if (it == by_hash_.end()) break;
    found.push_back(it->second.front());
  }
  return found;
}

size_t BlockPool::CountUnreferenced(std::span<const BlockId> blocks) const {
  return std::ranges::count_if(blocks, [&](BlockId id) { return slots_[id].references == 0; });
}

void BlockPool::Touch(std::span<const BlockId> blocks) {
  for (BlockId id : blocks) {
    if (slots_[id].references++ == 0) Unlink(id);
  }
}

void BlockPool::Allocate(size_t count, std::vector<BlockId>& out) {
  WP_CHECK(count <= free_count_);
  for (size_t i = 0; i < count; ++i) {
    const BlockId id = slots_[0].next;
    Unlink(id);
    Evict(id);
    slots_[id].references = 1;
    out.push_back(id);
  }
}

void BlockPool::Free(std::span<const BlockId> blocks) {
  for (size_t i = blocks.size(); i-- > 0;) {
    Slot& slot = slots_[blocks[i]];
    WP_DCHECK(slot.references > 0);
    if (--slot.references > 0) continue;
    // Before the end mark, or before the first.
    Link(blocks[i], !slot.cached && reuse_empty_first_ ? slots_[0].next : 0);
  }
}

void BlockPool::Store(std::span<const BlockId> blocks, size_t first,
                      std::span<const BlockHash> hashes, std::span<const kv::TokenId> tokens,
                      std::shared_ptr<const CacheScope> scope) {
  if (blocks.empty()) return;
  CacheEvent event;
  event.kind = CacheEvent::Kind::kStored;
  event.scope = std::move(scope);
  if (first > 0) event.parent = hashes[first - 1];
  for (size_t i = 0; i < blocks.size(); ++i) {
    const size_t at = first + i;
    Slot& slot = slots_[blocks[i]];
    WP_DCHECK(!slot.cached);
    slot.cached = true;
    slot.hash = hashes[at];
    slot.parent.reset();
    if (at > 0) slot.parent = hashes[at - 1];
    auto content = tokens.subspan(at * block_size_, block_size_);
    slot.tokens.assign(content.begin(), content.end());
    ++cached_count_;
    by_hash_[slot.hash].push_back(blocks[i]);
    event.hashes.push_back(slot.hash);
  }
  auto run = tokens.subspan(first * block_size_, blocks.size() * block_size_);
  event.tokens.assign(run.begin(), run.end());
  events_.push_back(std::move(event));
}

void BlockPool::Report(size_t count, std::span<const BlockHash> hashes,
                       std::span<const kv::TokenId> tokens,
                       std::shared_ptr<const CacheScope> scope) {
  if (count == 0) return;
  CacheEvent event;
  event.kind = CacheEvent::Kind::kStored;
  event.scope = std::move(scope);
  event.hashes.assign(hashes.begin(), hashes.begin() + static_cast<ptrdiff_t>(count));
  auto run = tokens.first(count * block_size_);
  event.tokens.assign(run.begin(), run.end());
  events_.push_back(std::move(event));
}

bool BlockPool::Reset() {
  if (free_count_ != usable_blocks()) return false;
  by_hash_.clear();
  cached_count_ = 0;
  for (Slot& slot : slots_) {
    slot.cached = false;
    slot.tokens.clear();
  }
  events_.push_back(CacheEvent{});
  return true;
}

std::vector<CacheEvent> BlockPool::TakeEvents() {
  return std::exchange(events_, {});
}

std::vector<BlockPool::Resident> BlockPool::Residents() const {
  std::vector<Resident> residents;
  residents.reserve(cached_count_);
  for (const Slot& slot : slots_) {
    if (slot.cached) residents.push_back({slot.hash, slot.parent, slot.tokens, slot.references});
  }
  return residents;
}

void BlockPool::Link(BlockId id, BlockId before) {
  const BlockId previous = slots_[before].previous;
  slots_[id].previous = previous;
  slots_[id].next = before;
  slots_[previous].next = id;
  slots_[before].previous = id;
  ++free_count_;
}

void BlockPool::Unlink(BlockId id) {
  Slot& slot = slots_[id];
  slots_[slot.previous].next = slot.next;
  slots_[slot.next].previous = slot.previous;
  --free_count_;
}

void BlockPool::Evict(BlockId id) {
  Slot& slot = slots_[id];
  if (!slot.cached) return;
  slot.cached = false;
  slot.tokens.clear();
  --cached_count_;
  auto it = by_hash_.find(slot.hash);
  WP_DCHECK(it != by_hash_.end());
  std::erase(it->second, id);
  if (it->second.empty()) by_hash_.erase(it);
  CacheEvent event;
  event.kind = CacheEvent::Kind::kRemoved;
  event.hashes.push_back(slot.hash);
  events_.push_back(std::move(event));
}

}  // namespace warmpath::sim
