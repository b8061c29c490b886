// Internal to net: a budget of events, refilled at a steady rate. The caller brings the time.
#pragma once

#include <algorithm>

#include "base/clock.h"

namespace warmpath::net {

class TokenBucket {
 public:
  TokenBucket(double per_second, double burst)
      : per_second_(per_second), burst_(burst), tokens_(burst) {}

  // False when the budget is exceeded.
  bool Take(TimePoint now, double tokens = 1) {
    if (last_ != TimePoint() && now > last_) {
      tokens_ = std::min(burst_, tokens_ + per_second_ * ToSeconds(now - last_));
    }
    last_ = std::max(last_, now);
    tokens_ -= tokens;
    return tokens_ >= 0;
  }

 private:
  const double per_second_;
  const double burst_;
  double tokens_;
  TimePoint last_{};
};

}  // namespace warmpath::net
