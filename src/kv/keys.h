// Block keys: XXH3-64 over a block's tokens and per-block extra keys, seeded with the parent's key
// and a secret of the process, so that nobody can look for two blocks with one key.
//
// What selects a chain as a whole (block size, LoRA name, cache salt) is in its root; multimodal
// hashes and other per-block keys are in the block they belong to. Pure functions, thread-safe.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "kv/types.h"

namespace warmpath::kv {

// `lora_name` and `cache_salt` are empty when absent.
BlockKey RootKey(uint32_t block_size, std::string_view lora_name, std::string_view cache_salt);

// Key of one block. `extra` is an opaque rendering of its per-block extra keys, empty for plain
// text.
BlockKey ChildKey(BlockKey parent, std::span<const TokenId> block_tokens,
                  std::string_view extra = {});

// Keys of consecutive blocks below `parent`: keys.size() blocks of tokens.size() / keys.size()
// tokens each. `extras` as in ChildKey, one per block or none at all.
void ChainKeys(BlockKey parent, std::span<const TokenId> tokens,
               std::span<const std::string> extras, std::span<BlockKey> keys);

// Keys of every full block of `tokens`; the trailing partial block has none. Result size =
// tokens.size() / block_size.
std::vector<BlockKey> PrefixKeys(BlockKey root, std::span<const TokenId> tokens,
                                 uint32_t block_size);

}  // namespace warmpath::kv
