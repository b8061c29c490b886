// How fast an endpoint prefills, learned from observed times to first token: seconds = base +
// per_token * tokens.
//
// A least-squares line over exponentially forgotten samples, held near a prior while there are few
// of them. Outliers are cut to four times (a quarter of) what was expected. Owned by
// expected-cost-scorer under its lock.
#pragma once

namespace warmpath::scheduling {

struct PrefillRates {
  double base_s = 0.005;
  double per_token_s = 100e-6;
  double Seconds(double tokens) const { return base_s + per_token_s * tokens; }
};

class PrefillEstimator {
 public:
  // `prior` is what to believe without samples. Non-finite and negative samples are ignored.
  void Observe(double tokens, double seconds, const PrefillRates& prior);
  // Within 0..5 s and 1 us..10 ms.
  PrefillRates Estimate(const PrefillRates& prior) const;
  // Weakens what was learned, 0 < factor <= 1.
  void Forget(double factor);

 private:
  // Weighted sums of 1, x, y, x*x, x*y; x in thousands of tokens.
  double w_ = 0, x_ = 0, y_ = 0, xx_ = 0, xy_ = 0;
};

}  // namespace warmpath::scheduling
