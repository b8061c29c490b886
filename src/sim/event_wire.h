// From the core's events to the bytes an engine publishes. Pure functions.
#pragma once

#include <span>
#include <string>

#include "base/clock.h"
#include "kv/event_batch.h"
#include "sim/cache_event.h"
#include "sim/options.h"

namespace warmpath::sim {

// The last 8 bytes of a digest, big-endian: what integer events carry.
kv::EngineHash Low64(const BlockHash& hash, uint32_t digest_size);

// Digests of the algorithms that make 16 bytes fill the front of a BlockHash; the rest is zero.
struct WireOptions {
  uint32_t block_size = 16;
  uint32_t digest_size = 32;
  kv::EventFormat format = kv::EventFormat::kMap;
  EventHashWidth width = EventHashWidth::k64;
};

std::string EncodeEvents(std::span<const CacheEvent> events, uint32_t rank, WallTime now,
                         const WireOptions& options);

// The hash function of an engine: algorithm and seed, extra keys tagged as 0.31 and newer do, or
// bare.
BlockHashFunction MakeBlockHash(kv::HashAlgo algo, const std::string& seed,
                                bool tagged_extra_keys = true);
uint32_t DigestSize(kv::HashAlgo algo);

}  // namespace warmpath::sim
