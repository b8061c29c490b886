#include "scheduling/plugins/scorers/prefill_rates.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace warmpath::scheduling {
namespace {

const PrefillRates kPrior;

PrefillRates Learn(double base, double per_token, int samples, double outliers = 0,
                   double tokens = 0) {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> unit;
  PrefillEstimator estimator;
  for (int i = 0; i < samples; ++i) {
    const double x = tokens > 0 ? tokens : 8000 * unit(random);
    double y = (base + per_token * x) * (0.9 + 0.2 * unit(random));
    if (unit(random) < outliers) y *= 100;
    estimator.Observe(x, y, kPrior);
  }
  return estimator.Estimate(kPrior);
}

TEST(PrefillEstimator, StartsAtThePrior) {
  const PrefillRates rates = PrefillEstimator().Estimate(kPrior);
  EXPECT_NEAR(rates.base_s, 0.005, 1e-9);
  EXPECT_NEAR(rates.per_token_s, 100e-6, 1e-12);
}

TEST(PrefillEstimator, FindsTheLineBehindNoisySamples) {
  const PrefillRates slow = Learn(0.1, 500e-6, 200);
  EXPECT_NEAR(slow.Seconds(4000), 2.1, 0.1);
  EXPECT_NEAR(slow.per_token_s, 500e-6, 60e-6);
  EXPECT_NEAR(Learn(0.02, 10e-6, 300).Seconds(4000), 0.06, 0.01);
}

TEST(PrefillEstimator, BearsOutliers) {
  EXPECT_NEAR(Learn(0.1, 500e-6, 400, 0.03).Seconds(4000), 2.1, 0.6);
}

TEST(PrefillEstimator, KeepsASlopeWhenAllPromptsAreEquallyLong) {
  const PrefillRates rates = Learn(0.02, 1e-3, 200, 0, 6000);
  EXPECT_NEAR(rates.Seconds(6000), 6.02, 0.5);
  EXPECT_GT(rates.per_token_s, 500e-6);
}

TEST(PrefillEstimator, StaysWithinItsBounds) {
  const PrefillRates high = Learn(1e5, 1, 500);
  EXPECT_LE(high.base_s, 5);
  EXPECT_LE(high.per_token_s, 10e-3);
  const PrefillRates low = Learn(0, 1e-12, 2000);
  EXPECT_GE(low.base_s, 0);
  EXPECT_GE(low.per_token_s, 1e-6);
}

TEST(PrefillEstimator, IgnoresSamplesThatAreNoTimes) {
  PrefillEstimator estimator;
  const double inf = std::numeric_limits<double>::infinity();
  for (const double bad : {std::nan(""), inf, -1.0}) {
    estimator.Observe(bad, 1, kPrior);
    estimator.Observe(100, bad, kPrior);
  }
  EXPECT_NEAR(estimator.Estimate(kPrior).per_token_s, 100e-6, 1e-12);
}

TEST(PrefillEstimator, ForgettingReturnsToThePrior) {
  PrefillEstimator estimator;
  for (int i = 1; i <= 100; ++i) estimator.Observe(i * 50, i * 50 * 300e-6, kPrior);
  EXPECT_NEAR(estimator.Estimate(kPrior).per_token_s, 300e-6, 50e-6);
  estimator.Forget(1e-6);
  EXPECT_NEAR(estimator.Estimate(kPrior).per_token_s, 100e-6, 1e-6);
}

}  // namespace
}  // namespace warmpath::scheduling
