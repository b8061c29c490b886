#include "k8s/back_off.h"

#include <algorithm>

namespace warmpath::k8s {

// SplitMix64 (Steele, Lea, Flood 2014).
double Jitter::Fraction() {
  state_ += 0x9e3779b97f4a7c15u;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1.0p-53;
}

Duration Jitter::Between(Duration a, Duration b) {
  return a + FromSeconds(ToSeconds(b - a) * Fraction());
}

Duration BackOff::Next(TimePoint now, Jitter& jitter) {
  if (now - last_ > forget_) next_ = first_;
  last_ = now;
  const Duration wait = jitter.Between(next_ / 2, next_);
  next_ = std::min(next_ * 2, most_);
  return wait;
}

}  // namespace warmpath::k8s
