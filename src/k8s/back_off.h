// Internal to k8s: how long to wait before asking the API server again. Loop-confined.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace warmpath::k8s {

// Uniform numbers of its own, so that a test's seed decides all of them.
class Jitter {
 public:
  explicit Jitter(uint64_t seed) : state_(seed) {}
  double Fraction();  // [0, 1)
  Duration Between(Duration a, Duration b);

 private:
  uint64_t state_;
};

// Doubles from `first` to `most`; half of each wait is random, so that clients of one server do not
// come back together. Begins anew after `forget` without a call.
class BackOff {
 public:
  BackOff(Duration first, Duration most, Duration forget)
      : first_(first), most_(most), forget_(forget), next_(first) {}
  Duration Next(TimePoint now, Jitter& jitter);
  void Reset() { next_ = first_; }

 private:
  const Duration first_, most_, forget_;
  Duration next_;
  TimePoint last_{};
};

}  // namespace warmpath::k8s
