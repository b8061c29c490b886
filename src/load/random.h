// Draws that are the same on every machine, compiler and standard library: a seed names one
// workload forever. Not thread-safe; not for secrets.
#pragma once

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

namespace warmpath::load {

// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  // Uniform in [0, bound), bound > 0, by the high half of the product: its bias, below bound /
  // 2^64, is accepted.
  uint64_t Below(uint64_t bound) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(Next()) * bound) >> 64);
  }

  // Uniform in [0, 1), 53 bits.
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }

  // Exponential with this mean: the gap between two arrivals of a Poisson process.
  double Exponential(double mean) { return -std::log1p(-Unit()) * mean; }

  // Fisher-Yates from the back.
  template <typename T>
  void Shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[Below(i)]);
  }

 private:
  uint64_t state_;
};

// Seed of stream number `stream` of a workload with this seed: streams do not overlap in practice.
inline uint64_t StreamSeed(uint64_t seed, uint64_t stream) {
  Random mixer(seed ^ (stream * 0xD1342543DE82EF95u));
  mixer.Next();
  return mixer.Next();
}

}  // namespace warmpath::load
