#include "scheduling/plugins/scorers/prefill_rates.h"

#include <algorithm>
#include <cmath>

namespace warmpath::scheduling {
namespace {

constexpr double kDecay = 0.98;       // about 50 samples count
constexpr double kPriorTokens = 2.0;  // thousands: where the prior's second point lies
constexpr double kOutlier = 4;
constexpr double kMaxBase = 5, kMinPerToken = 1e-6, kMaxPerToken = 10e-3;

}  // namespace

void PrefillEstimator::Observe(double tokens, double seconds, const PrefillRates& prior) {
  if (!std::isfinite(tokens) || !std::isfinite(seconds) || tokens < 0 || seconds < 0) return;
  const double expected = Estimate(prior).Seconds(tokens);
  const double y = std::clamp(seconds, expected / kOutlier, expected * kOutlier);
  const double x = tokens / 1000;
  Forget(kDecay);
  w_ += 1;
  x_ += x;
  y_ += y;
  xx_ += x * x;
  xy_ += x * y;
}

PrefillRates PrefillEstimator::Estimate(const PrefillRates& prior) const {
  // The prior is two more samples, at 0 and at kPriorTokens.
  const double far = prior.Seconds(kPriorTokens * 1000);
  const double w = w_ + 2;
  const double mean_x = (x_ + kPriorTokens) / w;
  const double mean_y = (y_ + prior.base_s + far) / w;
  const double variance = (xx_ + kPriorTokens * kPriorTokens) / w - mean_x * mean_x;
  const double covariance = (xy_ + kPriorTokens * far) / w - mean_x * mean_y;
  double slope = variance > 1e-12 ? covariance / variance : prior.per_token_s * 1000;
  double base = mean_y - slope * mean_x;
  if (base < 0) {
    base = 0;
    slope = mean_y / mean_x;
  } else if (slope < kMinPerToken * 1000) {
    slope = kMinPerToken * 1000;
    base = mean_y - slope * mean_x;
  }
  return {std::clamp(base, 0.0, kMaxBase), std::clamp(slope / 1000, kMinPerToken, kMaxPerToken)};
}

void PrefillEstimator::Forget(double factor) {
  w_ *= factor;
  x_ *= factor;
  y_ *= factor;
  xx_ *= factor;
  xy_ *= factor;
}

}  // namespace warmpath::scheduling
