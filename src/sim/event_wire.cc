#include "sim/event_wire.h"

#include <utility>

#include "kv/extra_keys.h"

namespace warmpath::sim {
namespace {

kv::EngineDigest ToDigest(const BlockHash& hash, uint32_t size) {
  kv::EngineDigest digest;
  digest.bytes = hash;
  digest.size = static_cast<uint8_t>(size);
  return digest;
}

}  // namespace

kv::EngineHash Low64(const BlockHash& hash, uint32_t digest_size) {
  return ToDigest(hash, digest_size).low64();
}

uint32_t DigestSize(kv::HashAlgo algo) {
  return algo == kv::HashAlgo::kXxhash || algo == kv::HashAlgo::kXxhashCbor ? 16 : 32;
}

BlockHashFunction MakeBlockHash(kv::HashAlgo algo, const std::string& seed,
                                bool tagged_extra_keys) {
  const kv::EngineDigest none = kv::NoneHash(algo, seed);
  const kv::HashRecipe recipe{algo, tagged_extra_keys};
  return [=, size = DigestSize(algo)](const BlockHash* parent, std::span<const kv::TokenId> tokens,
                                      const CacheScope& scope, size_t index) {
    const auto extra = kv::TextExtraKeys(scope.lora_name, scope.lora_path, scope.cache_salt, index);
    return kv::HashBlock(recipe, parent == nullptr ? none : ToDigest(*parent, size), tokens, extra)
        .bytes;
  };
}

std::string EncodeEvents(std::span<const CacheEvent> events, uint32_t rank, WallTime now,
                         const WireOptions& options) {
  kv::EventBatch batch;
  batch.ts = ToSeconds(now.time_since_epoch());
  batch.rank = rank;
  auto put = [&](const BlockHash& hash, std::vector<kv::EngineHash>& hashes,
                 std::vector<std::string>& wide) {
    const kv::EngineDigest digest = ToDigest(hash, options.digest_size);
    hashes.push_back(digest.low64());
    if (options.width == EventHashWidth::k256) wide.emplace_back(digest.view());
  };
  for (const CacheEvent& event : events) {
    switch (event.kind) {
      case CacheEvent::Kind::kStored: {
        kv::BlockStored stored;
        for (const BlockHash& hash : event.hashes) put(hash, stored.hashes, stored.wide);
        if (event.parent) {
          const kv::EngineDigest digest = ToDigest(*event.parent, options.digest_size);
          stored.parent = digest.low64();
          if (options.width == EventHashWidth::k256) stored.wide_parent = digest.view();
        }
        stored.tokens = event.tokens;
        stored.block_size = options.block_size;
        stored.medium = "GPU";
        stored.group_idx = 0;
        stored.spec_kind = "full_attention";
        std::string salt;
        if (event.scope) {
          stored.lora_id = event.scope->lora_id;
          if (!event.scope->lora_name.empty()) stored.lora_name = event.scope->lora_name;
          if (!event.scope->session_id.empty()) stored.session_id = event.scope->session_id;
          if (!event.parent) salt = event.scope->cache_salt;
        }
        stored.extra_keys = kv::EncodeTextExtras(stored.lora_name.value_or(""), salt,
                                                 event.parent ? 1 : 0, event.hashes.size());
        batch.events.emplace_back(std::move(stored));
        break;
      }
      case CacheEvent::Kind::kRemoved: {
        kv::BlockRemoved removed;
        for (const BlockHash& hash : event.hashes) put(hash, removed.hashes, removed.wide);
        removed.medium = "GPU";
        removed.group_idx = 0;
        batch.events.emplace_back(std::move(removed));
        break;
      }
      case CacheEvent::Kind::kCleared:
        batch.events.emplace_back(kv::AllBlocksCleared{});
        break;
    }
  }
  return kv::EncodeBatch(batch, {.format = options.format});
}

}  // namespace warmpath::sim
