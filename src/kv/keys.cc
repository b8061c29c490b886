#include "kv/keys.h"

#include <cstddef>
#include <string>

#include "base/hash.h"

namespace warmpath::kv {

namespace {

template <typename T>
void AppendRaw(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

BlockKey RootKey(uint32_t block_size, std::string_view lora_name, std::string_view cache_salt) {
  std::string bytes = "root";
  AppendRaw(bytes, block_size);
  AppendRaw(bytes, lora_name.size());
  bytes += lora_name;
  bytes += cache_salt;
  return Xxh3(bytes, ProcessSeed());
}

BlockKey ChildKey(BlockKey parent, std::span<const TokenId> block_tokens, std::string_view extra) {
  // The parent enters as the seed: the tokens are hashed in place.
  const uint64_t seed =
      Xxh3(std::string_view(reinterpret_cast<const char*>(&parent), sizeof parent), ProcessSeed());
  const BlockKey key = Xxh3(std::as_bytes(block_tokens), seed);
  if (extra.empty()) return key;
  return Xxh3(extra, key);
}

std::vector<BlockKey> PrefixKeys(BlockKey root, std::span<const TokenId> tokens,
                                 uint32_t block_size) {
  std::vector<BlockKey> keys;
  if (block_size == 0) return keys;
  const size_t blocks = tokens.size() / block_size;
  keys.reserve(blocks);
  BlockKey parent = root;
  for (size_t i = 0; i < blocks; ++i) {
    parent = ChildKey(parent, tokens.subspan(i * block_size, block_size));
    keys.push_back(parent);
  }
  return keys;
}

}  // namespace warmpath::kv
