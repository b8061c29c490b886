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
  const BlockKey key = Xxh3(std::as_bytes(block_tokens), parent ^ ProcessSeed());
  if (extra.empty()) return key;
  return Xxh3(extra, key);
}

void ChainKeys(BlockKey parent, std::span<const TokenId> tokens,
               std::span<const std::string> extras, std::span<BlockKey> keys) {
  if (keys.empty()) return;
  const size_t block_size = tokens.size() / keys.size();
  if (extras.empty()) {
    Xxh3Chain(std::as_bytes(tokens).data(), block_size * sizeof(TokenId), parent, ProcessSeed(),
              keys);
    return;
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    parent = ChildKey(parent, tokens.subspan(i * block_size, block_size), extras[i]);
    keys[i] = parent;
  }
}

std::vector<BlockKey> PrefixKeys(BlockKey root, std::span<const TokenId> tokens,
                                 uint32_t block_size) {
  std::vector<BlockKey> keys;
  if (block_size == 0) return keys;
  keys.resize(tokens.size() / block_size);
  ChainKeys(root, tokens.first(keys.size() * block_size), {}, keys);
  return keys;
}

}  // namespace warmpath::kv
