#include "base/hash.h"

#include <openssl/evp.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <cerrno>

#include "base/check.h"

namespace warmpath {
namespace {

template <typename T>
T KernelRandom() {
  T value;
  WP_CHECK(getrandom(&value, sizeof value, 0) == static_cast<ssize_t>(sizeof value));
  return value;
}

// Fetched once and a context per thread: a one-shot EVP_Digest costs three times as much.
const EVP_MD* Sha256Algorithm() {
  static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return algorithm;
}

struct DigestContext {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~DigestContext() { EVP_MD_CTX_free(context); }
};

}  // namespace

uint64_t Xxh3(std::span<const std::byte> bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

uint64_t Xxh3(std::string_view bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

void Xxh3Chain(const std::byte* pieces, size_t piece_size, uint64_t first, uint64_t secret,
               std::span<uint64_t> out) {
  constexpr size_t kUsual = 64;  // as a constant it takes half the time
  uint64_t previous = first;
  for (uint64_t& digest : out) {
    previous = piece_size == kUsual ? XXH3_64bits_withSeed(pieces, kUsual, previous ^ secret)
                                    : XXH3_64bits_withSeed(pieces, piece_size, previous ^ secret);
    digest = previous;
    pieces += piece_size;
  }
}

std::array<uint8_t, 16> Xxh3Wide(std::string_view bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  std::array<uint8_t, 16> out;
  std::copy(std::begin(canonical.digest), std::end(canonical.digest), out.begin());
  return out;
}

Sha256Digest Sha256(std::string_view bytes) {
  thread_local DigestContext context;
  Sha256Digest digest;
  unsigned int size = 0;
  WP_CHECK(EVP_DigestInit_ex2(context.context, Sha256Algorithm(), nullptr) == 1 &&
           EVP_DigestUpdate(context.context, bytes.data(), bytes.size()) == 1 &&
           EVP_DigestFinal_ex(context.context, digest.data(), &size) == 1);
  return digest;
}

std::string Hex(std::span<const uint8_t> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const uint8_t byte : bytes) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

uint64_t ProcessSeed() {
  static const uint64_t seed = KernelRandom<uint64_t>();
  return seed;
}

std::string RandomUuid() {
  // The kernel is asked for many at once; what was given out is wiped.
  thread_local std::array<uint8_t, 64 * 16> pool;
  thread_local size_t used = pool.size();
  if (used == pool.size()) {
    // More than 256 bytes may come in parts.
    for (size_t got = 0; got < pool.size();) {
      const ssize_t size = getrandom(pool.data() + got, pool.size() - got, 0);
      WP_CHECK(size > 0 || errno == EINTR);
      got += size > 0 ? static_cast<size_t>(size) : 0;
    }
    used = 0;
  }
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out(36, '-');
  size_t at = 0;
  for (size_t i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) ++at;
    uint8_t& byte = pool[used++];
    out[at++] = kDigits[byte >> 4];
    out[at++] = kDigits[byte & 15];
    byte = 0;
  }
  return out;
}

}  // namespace warmpath
