// What an engine core says about its KV cache: the events of one step, before encoding. Plain data.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kv/types.h"

namespace warmpath::sim {

// The engine's full digest of a block. Comparable within one hash domain (algorithm, seed, block
// size).
using BlockHash = std::array<uint8_t, 32>;

struct BlockHashHasher {
  size_t operator()(const BlockHash& hash) const {
    size_t value;  // the digest is uniform already
    std::memcpy(&value, hash.data(), sizeof(value));
    return value;
  }
};

// What enters every block hash of a chain besides its tokens. Shared by all blocks of a request.
struct CacheScope {
  std::optional<int64_t> lora_id;
  std::string lora_name;  // "" when none
  std::string lora_path;
  std::string cache_salt;  // "" when none; hashed into the first block only
  std::string session_id;  // not hashed; only reported
};

struct CacheEvent {
  enum class Kind { kStored, kRemoved, kCleared };
  Kind kind = Kind::kCleared;
  std::vector<BlockHash> hashes;  // stored: a run of consecutive blocks; removed: exactly one
  std::optional<BlockHash>
      parent;  // stored: the block before the run, empty at the start of a chain
  std::vector<kv::TokenId> tokens;          // stored: of the whole run
  std::shared_ptr<const CacheScope> scope;  // stored
};

}  // namespace warmpath::sim
