// Digests. Pure functions, thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace warmpath {

// XXH3-64. Not for secrets; pass a per-process `seed` where an input may be chosen to collide.
uint64_t Xxh3(std::span<const std::byte> bytes, uint64_t seed);
uint64_t Xxh3(std::string_view bytes, uint64_t seed);
// A chain of XXH3-64 over pieces of `piece_size` bytes that lie one behind the other: out[i] is the
// digest of piece i, seeded with `secret` xor the digest before (`first` for the first piece).
void Xxh3Chain(const std::byte* pieces, size_t piece_size, uint64_t first, uint64_t secret,
               std::span<uint64_t> out);
// XXH3-128, 16 bytes big-endian (the canonical form that Python's xxhash prints).
std::array<uint8_t, 16> Xxh3Wide(std::string_view bytes);

using Sha256Digest = std::array<uint8_t, 32>;
Sha256Digest Sha256(std::string_view bytes);

// Lower-case hex.
std::string Hex(std::span<const uint8_t> bytes);

// Drawn once per process from the kernel: keys of in-memory tables that clients can influence are
// seeded with it.
uint64_t ProcessSeed();
// An unpredictable 128-bit id as 32 hex digits grouped like a UUID (request ids).
std::string RandomUuid();

}  // namespace warmpath
