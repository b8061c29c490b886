#include "prompt/shape.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/hash.h"

namespace warmpath::prompt {
namespace {

// List node, map node and allocator overhead of one entry, estimated from above.
constexpr size_t kOverhead = 256;
constexpr char kStandInEnd = 'Z';

// Letters and digits only.
const std::string& StandInStart() {
  static const std::string start = [] {
    std::string uuid = RandomUuid();
    std::erase(uuid, '-');
    return "Q" + uuid.substr(0, 20) + "N";
  }();
  return start;
}

// The number behind a stand-in's start, and where the stand-in ends; nullopt when it is none.
std::optional<std::pair<uint32_t, size_t>> ReadNumber(std::string_view text, size_t at,
                                                      size_t limit) {
  uint64_t number = 0;
  const size_t first = at;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9' && at - first < 8) {
    number = number * 10 + static_cast<uint64_t>(text[at++] - '0');
  }
  if (at == first || at == text.size() || text[at] != kStandInEnd || number >= limit)
    return std::nullopt;
  return std::pair(static_cast<uint32_t>(number), at + 1);
}

size_t Count(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size()))
    ++count;
  return count;
}

}  // namespace

size_t Shape::bytes() const {
  size_t bytes = sizeof(Shape) + gaps.size() * sizeof(uint32_t);
  for (const Literal& literal : literals)
    bytes += sizeof(Literal) + literal.text.size() + literal.ends.size() * sizeof(uint64_t);
  return bytes;
}

void AppendStandIn(size_t i, std::string& out) {
  out += StandInStart();
  fmt::format_to(std::back_inserter(out), "{}", i);
  out += kStandInEnd;
}

ShapePtr MakeShape(const Tokenizer& tokenizer, std::string_view body, size_t texts, int64_t now) {
  const std::string& start = StandInStart();
  if (Count(body, start) != texts ||
      tokenizer.chat_template().find(start) != std::string_view::npos)
    return nullptr;
  const auto chat = tokenizer.RenderChatBody(body, now);
  if (!chat) return nullptr;
  auto shape = std::make_shared<Shape>();
  shape->add_special_tokens = chat->add_special_tokens;
  shape->truncate_to = chat->truncate_to;
  const std::string_view text = chat->text;
  size_t from = 0;
  while (true) {
    const size_t at = text.find(start, from);
    auto& literal = shape->literals.emplace_back();
    literal.text = text.substr(from, at == text.npos ? text.npos : at - from);
    auto ends = tokenizer.CutPoints(literal.text, 1);
    if (!ends) return nullptr;
    literal.ends = std::move(*ends);
    if (at == text.npos) return shape;
    const auto gap = ReadNumber(text, at + start.size(), texts);
    if (!gap) return nullptr;
    shape->gaps.push_back(gap->first);
    from = gap->second;
  }
}

size_t ShapeCache::Hash::operator()(std::string_view text) const {
  static const uint64_t seed = ProcessSeed();
  return Xxh3(text, seed);
}

ShapeCache::Shard& ShapeCache::ShardOf(std::string_view key) {
  return shards_[(Hash()(key) >> 32) % kShards];
}

std::optional<ShapePtr> ShapeCache::Find(std::string_view key) {
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  const auto found = shard.by_key.find(key);
  if (found == shard.by_key.end()) return std::nullopt;
  shard.recent.splice(shard.recent.begin(), shard.recent, found->second);
  return found->second->shape;
}

void ShapeCache::Put(std::string_view key, ShapePtr shape) {
  const size_t size = key.size() + (shape == nullptr ? 0 : shape->bytes()) + kOverhead;
  if (size > shard_bytes_) return;
  Entry entry{.key = std::string(key), .shape = std::move(shape), .bytes = size};
  Shard& shard = ShardOf(key);
  MutexLock lock(shard.mutex);
  if (shard.by_key.contains(key)) return;
  shard.recent.push_front(std::move(entry));
  shard.by_key.emplace(shard.recent.front().key, shard.recent.begin());
  shard.bytes += size;
  while (shard.bytes > shard_bytes_) {
    const Entry& oldest = shard.recent.back();
    shard.bytes -= oldest.bytes;
    shard.by_key.erase(oldest.key);
    shard.recent.pop_back();
  }
}

size_t ShapeCache::bytes() const {
  size_t total = 0;
  for (const Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    total += shard.bytes;
  }
  return total;
}

}  // namespace warmpath::prompt
