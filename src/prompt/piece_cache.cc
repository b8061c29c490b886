#include "prompt/piece_cache.h"

#include <utility>

#include "base/hash.h"

namespace warmpath::prompt {
namespace {

// List node, map node and allocator overhead of one entry, estimated from above.
constexpr size_t kOverhead = 256;

}  // namespace

size_t PieceCache::Hash::operator()(std::string_view text) const {
  static const uint64_t seed = ProcessSeed();
  return Xxh3(text, seed);
}

PieceCache::Shard& PieceCache::ShardOf(std::string_view piece) {
  return shards_[(Hash()(piece) >> 32) % kShards];
}

PieceCache::Ids PieceCache::Find(std::string_view piece) {
  Shard& shard = ShardOf(piece);
  MutexLock lock(shard.mutex);
  const auto found = shard.by_text.find(piece);
  if (found == shard.by_text.end()) return nullptr;
  shard.recent.splice(shard.recent.begin(), shard.recent, found->second);
  return found->second->ids;
}

void PieceCache::Put(std::string_view piece, Ids ids) {
  const size_t size = piece.size() + ids->size() * sizeof(kv::TokenId) + kOverhead;
  if (size > shard_bytes_) return;
  Entry entry{.text = std::string(piece), .ids = std::move(ids), .bytes = size};
  Shard& shard = ShardOf(piece);
  MutexLock lock(shard.mutex);
  if (shard.by_text.contains(piece)) return;
  shard.recent.push_front(std::move(entry));
  shard.by_text.emplace(shard.recent.front().text, shard.recent.begin());
  shard.bytes += size;
  while (shard.bytes > shard_bytes_) {
    const Entry& oldest = shard.recent.back();
    shard.bytes -= oldest.bytes;
    shard.by_text.erase(oldest.text);
    shard.recent.pop_back();
  }
}

size_t PieceCache::bytes() const {
  size_t total = 0;
  for (const Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    total += shard.bytes;
  }
  return total;
}

}  // namespace warmpath::prompt
