// The hashes that vLLM itself gives to KV blocks, byte for byte, for the simulator and for parity
// checks. Routing never needs them.
//
// Pure functions, thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kv/types.h"

namespace warmpath::kv {

enum class HashAlgo {
  kSha256,      // pickle + SHA-256, the engine's default
  kSha256Cbor,  // canonical CBOR + SHA-256
  kXxhash,      // pickle + XXH3-128
  kXxhashCbor,  // canonical CBOR + XXH3-128
};

// The names of --prefix-caching-hash-algo.
Result<HashAlgo> ParseHashAlgo(std::string_view name);
std::string_view HashAlgoName(HashAlgo algo);

// What the engine hashes for its seed when PYTHONHASHSEED is not set (0.29 and newer).
inline constexpr std::string_view kDefaultHashSeed = "vllm-none-hash";

// A digest: 32 bytes, or 16 (the rest zero) for the XXH3 algorithms.
struct EngineDigest {
  std::array<uint8_t, 32> bytes{};
  uint8_t size = 32;

  std::string_view view() const { return {reinterpret_cast<const char*>(bytes.data()), size}; }
  // What integer events carry: the last 8 bytes, big-endian.
  EngineHash low64() const;
  friend bool operator==(const EngineDigest&, const EngineDigest&) = default;
};

// One extra key of a block, in the order that the engine puts them: LoRA, multimodal, salt, embeds.
struct ExtraKey {
  enum class Kind { kLora, kMultimodal, kCacheSalt, kPromptEmbeds, kLegacyLoraId };
  Kind kind = Kind::kLora;
  std::string text;  // LoRA name, item identifier, salt, or the digest's bytes
  std::string path;  // LoRA: where the adapter was loaded from; hashed by 0.31 and newer
  int64_t number =
      0;  // multimodal: offset of the item from the block's start; kLegacyLoraId: the id
};

struct HashRecipe {
  HashAlgo algo = HashAlgo::kSha256;
  bool tagged_extra_keys = true;  // 0.31 and newer
};

// The parent of every first block. `seed` is the text of PYTHONHASHSEED.
EngineDigest NoneHash(HashAlgo algo, std::string_view seed = kDefaultHashSeed);

EngineDigest HashBlock(const HashRecipe& recipe, const EngineDigest& parent,
                       std::span<const TokenId> tokens, std::span<const ExtraKey> extra = {});

// Extra keys of block `index` of a plain text chain: LoRA on every block, salt on the first. "" =
// absent.
std::vector<ExtraKey> TextExtraKeys(std::string_view lora_name, std::string_view lora_path,
                                    std::string_view cache_salt, size_t index);

// The bytes that are hashed (tests, debugging).
std::string HashPreimage(const HashRecipe& recipe, const EngineDigest& parent,
                         std::span<const TokenId> tokens, std::span<const ExtraKey> extra);

}  // namespace warmpath::kv
