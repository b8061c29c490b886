#include "prompt/prefix_trie.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/hash.h"
#include "kv/keys.h"
#include "prompt/json_scan.h"

namespace warmpath::prompt {
namespace {

// Table entry, list entry, key lists and allocator overhead of a node, estimated from above.
constexpr size_t kOverhead = 512;
constexpr size_t kMaxKeySpaces = 4;     // that a node keeps keys of
constexpr size_t kMinTokensPerKey = 8;  // on average, of those kept

// `place` may be null or of something that is gone.
void FetchAhead(const void* place, size_t lines) {
  const auto first = reinterpret_cast<uintptr_t>(place);
  for (size_t i = 0; i < lines; ++i) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    __builtin_prefetch(reinterpret_cast<const void*>(first + 64 * i));
  }
}

}  // namespace

void ProvenBytes::Clear() {
  ranges_.clear();
  held_.clear();
}

void ProvenBytes::Add(const char* at, const char* kept, size_t size) {
  ranges_.push_back({at, kept, size});
}

void ProvenBytes::Hold(PrefixNodePtr node) {
  held_.push_back(std::move(node));
}

size_t ProvenBytes::bytes() const {
  size_t sum = 0;
  for (const Range& range : ranges_) sum += range.size;
  return sum;
}

bool ProvenBytes::Covers(const char* at, const char* kept, size_t size) const {
  const auto behind =
      std::upper_bound(ranges_.begin(), ranges_.end(), at,
                       [](const char* place, const Range& range) { return place < range.at; });
  if (behind == ranges_.begin()) return false;
  const Range& range = *std::prev(behind);
  const auto offset = static_cast<size_t>(at - range.at);
  return kept == range.kept + offset && offset + size <= range.size;
}

PrefixNode::PrefixNode(PrefixNodePtr parent, std::span<const TextSpan> chunk, EncodedChunk encoded)
    : parent_(std::move(parent)), ids_(std::move(encoded.ids)), last_word_(encoded.last_word) {
  tokens_ = ids_.size();
  if (parent_ != nullptr) {
    tokens_ += parent_->tokens_;
    depth_ = parent_->depth_ + 1;
    span_start_ = parent_->ends_span() ? parent_.get() : parent_->span_start_;
  }
  size_t size = 0;
  for (const TextSpan& span : chunk) size += span.bytes.size();
  bytes_.reserve(size);
  stretches_.reserve(chunk.size());
  for (const TextSpan& span : chunk) {
    bytes_ += span.bytes;
    RawText inside;
    const bool is_inside = JsonScan(span.bytes).Inside(inside);
    stretches_.push_back({span.bytes.size(), span.raw, is_inside, inside});
  }
}

// A long path is let go of one by one, not by recursion: a node that goes with its child leaves its
// own parent to whoever lets go of it. That it goes is certain only in here: before, another thread
// may still find it.
PrefixNode::~PrefixNode() {
  thread_local PrefixNodePtr* left_behind = nullptr;
  if (left_behind != nullptr) {
    *left_behind = std::move(parent_);
    return;
  }
  while (parent_ != nullptr) {
    PrefixNodePtr next;
    left_behind = &next;
    parent_.reset();
    left_behind = nullptr;
    parent_ = std::move(next);
  }
}

bool PrefixNode::Holds(std::span<const TextSpan> chunk, const ProvenBytes& proven) const {
  if (chunk.size() != stretches_.size()) return false;
  const char* at = bytes_.data();
  for (size_t i = 0; i < chunk.size(); ++i) {
    const size_t size = stretches_[i].size;
    if (chunk[i].raw != stretches_[i].raw || chunk[i].bytes.size() != size) return false;
    const char* const theirs = chunk[i].bytes.data();
    if (!proven.Covers(theirs, at, size) && std::memcmp(at, theirs, size) != 0) return false;
    at += size;
  }
  return true;
}

void PrefixNode::AppendText(std::string& out) const {
  std::string_view rest = bytes_;
  for (const Stretch& stretch : stretches_) {
    const std::string_view bytes = rest.substr(0, stretch.size);
    rest.remove_prefix(stretch.size);
    if (stretch.raw) {
      AppendUnescaped(bytes, out);
    } else {
      out += bytes;
    }
  }
}

std::vector<const PrefixNode*> PrefixNode::Path() const {
  std::vector<const PrefixNode*> path;
  for (const PrefixNode* node = this; node != nullptr; node = node->parent_.get())
    path.push_back(node);
  std::reverse(path.begin(), path.end());
  return path;
}

PrefixNode::KeyList PrefixNode::Keys::Find(kv::BlockKey root, uint32_t block_size) const {
  for (const Space& space : spaces) {
    if (space.root == root && space.block_size == block_size) return space.keys;
  }
  return nullptr;
}

void PrefixNode::Keys::Keep(Space space) {
  if (Find(space.root, space.block_size) != nullptr) return;
  if (spaces.size() < kMaxKeySpaces) {
    spaces.push_back(std::move(space));
  } else {
    spaces[turn++ % kMaxKeySpaces] = std::move(space);
  }
}

PrefixNode::KeyList PrefixNode::ChunkKeys(kv::BlockKey root, uint32_t block_size) const {
  MutexLock lock(mutex_);
  return chunk_keys_.Find(root, block_size);
}

PrefixNode::KeyList PrefixNode::SpanKeys(kv::BlockKey root, uint32_t block_size) const {
  if (!ends_span()) return nullptr;
  MutexLock lock(mutex_);
  return span_keys_.Find(root, block_size);
}

// The room for keys is charged when a node is added.
void PrefixNode::KeepChunkKeys(kv::BlockKey root, uint32_t block_size,
                               std::span<const kv::BlockKey> keys) const {
  if (keys.size() > 1 + ids_.size() / kMinTokensPerKey) return;
  auto list = std::make_shared<const std::vector<kv::BlockKey>>(keys.begin(), keys.end());
  MutexLock lock(mutex_);
  chunk_keys_.Keep({root, block_size, std::move(list)});
}

void PrefixNode::KeepSpanKeys(kv::BlockKey root, uint32_t block_size,
                              std::span<const kv::BlockKey> keys) const {
  if (keys.size() > 1 + (tokens_ - span_start_->tokens_) / kMinTokensPerKey) return;
  auto list = std::make_shared<const std::vector<kv::BlockKey>>(keys.begin(), keys.end());
  MutexLock lock(mutex_);
  span_keys_.Keep({root, block_size, std::move(list)});
}

void PrefixNode::SetLatest(const std::shared_ptr<const PrefixNode>& child) const {
  latest_ = child;
  latest_place_.store(child.get(), std::memory_order_relaxed);
  latest_text_.store(child->bytes_.data(), std::memory_order_relaxed);
}

PrefixNodePtr PrefixNode::LatestChild() const {
  PrefixNodePtr child;
  {
    MutexLock lock(mutex_);
    child = latest_.lock();
  }
  if (child != nullptr) {
    // A long text is gone through chunk by chunk, each far from the one before.
    FetchAhead(child->latest_place_.load(std::memory_order_relaxed), sizeof(PrefixNode) / 64);
    FetchAhead(child->latest_text_.load(std::memory_order_relaxed), 4);
  }
  return child;
}

void PrefixNode::SetFork(size_t bytes) const {
  fork_.store(static_cast<uint32_t>(std::min<size_t>(bytes, UINT32_MAX)),
              std::memory_order_relaxed);
}

size_t PrefixNode::CommonBytes(std::span<const TextSpan> chunk) const {
  const PrefixNodePtr child = LatestChild();
  if (child == nullptr) return 0;
  size_t common = 0;
  for (size_t i = 0; i < std::min(chunk.size(), child->stretches_.size()); ++i) {
    const Stretch& stretch = child->stretches_[i];
    if (chunk[i].raw != stretch.raw) break;
    const std::string_view theirs = std::string_view(child->bytes_).substr(common, stretch.size);
    const std::string_view ours = chunk[i].bytes;
    const auto parted = std::mismatch(ours.begin(), ours.end(), theirs.begin(), theirs.end());
    common += static_cast<size_t>(parted.first - ours.begin());
    if (parted.first != ours.end() || parted.second != theirs.end()) break;
  }
  return common;
}

// Blocks over ids that come in pieces.
class ChainKeys {
 public:
  ChainKeys(kv::BlockKey root, uint32_t block_size, size_t tokens)
      : root_(root), block_size_(block_size) {
    keys_.reserve(tokens / block_size);
  }

  // From the root to `last`.
  void AddPath(const PrefixNode& last) {
    struct Step {
      const PrefixNode* node;
      PrefixNode::KeyList span;  // null: the chunk alone
    };
    std::vector<Step> steps;
    const PrefixNode* node = &last;
    while (node->parent_ != nullptr) {
      steps.push_back({node, node->SpanKeys(root_, block_size_)});
      node = steps.back().span ? node->span_start_ : node->parent_.get();
    }
    Add(node->ids());
    bool appended = false;  // the last keys, so that the open block is not filled
    for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
      node = step->node;
      const auto known = step->span ? step->span : node->ChunkKeys(root_, block_size_);
      if (known != nullptr) {
        keys_.insert(keys_.end(), known->begin(), known->end());
        appended = true;
      } else {
        if (std::exchange(appended, false)) FillOpenBlock(*node->parent_);
        const size_t before = keys_.size();
        Add(node->ids());
        node->KeepChunkKeys(root_, block_size_, std::span(keys_).subspan(before));
      }
      if (step->span == nullptr && node->ends_span()) {
        const size_t start = node->span_start_->tokens() / block_size_;
        node->KeepSpanKeys(root_, block_size_, std::span(keys_).subspan(start));
      }
    }
    if (appended) FillOpenBlock(last);
  }

  void Add(std::span<const kv::TokenId> ids) {
    if (!open_.empty()) {
      const size_t missing = std::min(ids.size(), block_size_ - open_.size());
      open_.insert(open_.end(), ids.begin(), ids.begin() + static_cast<ptrdiff_t>(missing));
      ids = ids.subspan(missing);
      if (open_.size() < block_size_) return;
      Close(open_);
      open_.clear();
    }
    const size_t whole = ids.size() - ids.size() % block_size_;
    if (whole > 0) Close(ids.first(whole));
    open_.assign(ids.begin() + static_cast<ptrdiff_t>(whole), ids.end());
  }

  std::vector<kv::BlockKey> Take() { return std::move(keys_); }

 private:
  void Close(std::span<const kv::TokenId> blocks) {
    const kv::BlockKey parent = keys_.empty() ? root_ : keys_.back();
    const size_t before = keys_.size();
    keys_.resize(before + blocks.size() / block_size_);
    kv::ChainKeys(parent, blocks, {}, std::span(keys_).subspan(before));
  }

  // The ids up to the end of `last` that fill no block.
  void FillOpenBlock(const PrefixNode& last) {
    size_t missing = last.tokens() % block_size_;
    open_.resize(missing);
    for (const PrefixNode* node = &last; missing > 0; node = node->parent_.get()) {
      const auto& ids = node->ids();
      const size_t count = std::min(missing, ids.size());
      std::copy(ids.end() - static_cast<ptrdiff_t>(count), ids.end(),
                open_.begin() + static_cast<ptrdiff_t>(missing - count));
      missing -= count;
    }
  }

  const kv::BlockKey root_;
  const uint32_t block_size_;
  std::vector<kv::BlockKey> keys_;
  std::vector<kv::TokenId> open_;
};

std::vector<kv::BlockKey> KeysOfChain(const PrefixNode& node, std::span<const kv::TokenId> tail,
                                      kv::BlockKey root, uint32_t block_size) {
  if (block_size == 0) return {};
  ChainKeys keys(root, block_size, node.tokens() + tail.size());
  keys.AddPath(node);
  keys.Add(tail);
  return keys.Take();
}

PrefixNodePtr PrefixTrie::MakeRoot(std::vector<kv::TokenId> ids) {
  static std::atomic<uint64_t> roots{0};
  auto root = std::make_shared<PrefixNode>(nullptr, std::span<const TextSpan>{},
                                           EncodedChunk{std::move(ids), 0, {}});
  const uint64_t number = ++roots;
  root->hash_ =
      Xxh3(std::string_view(reinterpret_cast<const char*>(&number), sizeof number), ProcessSeed());
  root->linked_ = true;
  return root;
}

uint64_t PrefixTrie::HashOf(const PrefixNode& parent, std::span<const TextSpan> chunk) {
  uint64_t hash = parent.hash_;
  for (const TextSpan& span : chunk) hash = Xxh3(span.bytes, hash + (span.raw ? 1 : 0));
  return hash;
}

void PrefixTrie::Touch(const PrefixNode& node) const {
  // A child is never newer than its parent: whoever uses it used the parent before.
  node.used_.store(clock_.load(std::memory_order_relaxed), std::memory_order_relaxed);
}

PrefixNodePtr PrefixTrie::Find(const PrefixNodePtr& parent, std::span<const TextSpan> chunk,
                               const ProvenBytes& proven) {
  PrefixNodePtr node = parent->LatestChild();
  if (node != nullptr && node->Holds(chunk, proven)) {
    Touch(*node);
    return node;
  }
  const uint64_t hash = HashOf(*parent, chunk);
  Shard& shard = ShardOf(hash);
  {
    MutexLock lock(shard.mutex);
    const auto found = shard.nodes.find(hash);
    if (found == shard.nodes.end()) return nullptr;
    node = found->second;
  }
  if (node->parent_ != parent || !node->Holds(chunk, proven)) return nullptr;
  Touch(*node);
  MutexLock lock(parent->mutex_);
  parent->SetLatest(node);
  return node;
}

PrefixNodePtr PrefixTrie::Add(const PrefixNodePtr& parent, std::span<const TextSpan> chunk,
                              EncodedChunk encoded) {
  auto node = std::make_shared<PrefixNode>(parent, chunk, std::move(encoded));
  node->hash_ = HashOf(*parent, chunk);
  // Ids, and as much again for the keys of its blocks.
  node->charge_ = sizeof(PrefixNode) + node->bytes_.size() +
                  node->stretches_.size() * sizeof(PrefixNode::Stretch) +
                  node->ids_.size() * 3 * sizeof(kv::TokenId) + kOverhead;
  if (node->charge_ > max_bytes_ / 16) return node;
  auto& above = const_cast<PrefixNode&>(*parent);
  MutexLock lock(mutex_);
  if (!above.linked_) return node;
  Shard& shard = ShardOf(node->hash_);
  {
    MutexLock shard_lock(shard.mutex);
    const auto [at, fresh] = shard.nodes.try_emplace(node->hash_, node);
    if (!fresh) {
      if (at->second->parent_ == parent && at->second->Holds(chunk, {})) return at->second;
      return node;
    }
  }
  if (above.parent_ != nullptr && above.children_ == 0) leaves_.erase(above.leaf_);
  ++above.children_;
  node->linked_ = true;
  node->stamp_ = clock_.fetch_add(1, std::memory_order_relaxed) + 1;
  node->used_.store(node->stamp_, std::memory_order_relaxed);
  {
    MutexLock node_lock(parent->mutex_);
    parent->SetLatest(node);
  }
  leaves_.push_front(node.get());
  node->leaf_ = leaves_.begin();
  bytes_ += node->charge_;
  if (bytes_ > max_bytes_) Evict();
  return node;
}

void PrefixTrie::Evict() {
  // Each leaf is spared at most once for having been used since.
  size_t spared = leaves_.size();
  while (bytes_ > max_bytes_ && !leaves_.empty()) {
    PrefixNode& node = *leaves_.back();
    const uint64_t used = node.used_.load(std::memory_order_relaxed);
    if (used > node.stamp_ && spared > 0) {
      --spared;
      node.stamp_ = used;
      leaves_.splice(leaves_.begin(), leaves_, node.leaf_);
      continue;
    }
    Unlink(node);
  }
}

void PrefixTrie::Unlink(PrefixNode& node) {
  bytes_ -= node.charge_;
  node.linked_ = false;
  leaves_.erase(node.leaf_);
  auto& above = const_cast<PrefixNode&>(*node.parent_);
  if (--above.children_ == 0 && above.parent_ != nullptr) {
    above.stamp_ = node.stamp_;
    leaves_.push_back(&above);
    above.leaf_ = std::prev(leaves_.end());
  }
  Shard& shard = ShardOf(node.hash_);
  std::shared_ptr<PrefixNode> last;  // let go of outside the lock
  MutexLock lock(shard.mutex);
  const auto found = shard.nodes.find(node.hash_);
  last = std::move(found->second);
  shard.nodes.erase(found);
}

size_t PrefixTrie::bytes() const {
  MutexLock lock(mutex_);
  return bytes_;
}

}  // namespace warmpath::prompt
