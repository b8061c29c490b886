#include "routing/metrics.h"

#include <gtest/gtest.h>

#include <string>

namespace warmpath::routing {
namespace {

TEST(RoutingMetrics, TheSameLabelsAreTheSameSeries) {
  Registry registry;
  RoutingMetrics metrics(registry);
  const RequestMetrics& one = metrics.For({"m", "m", "default-flow", 0});
  EXPECT_EQ(&one, &metrics.For({"m", "m", "default-flow", 0}));
  EXPECT_NE(&one, &metrics.For({"m", "m", "default-flow", -1}));
  EXPECT_NE(&one, &metrics.For({"m", "n", "default-flow", 0}));
}

TEST(RoutingMetrics, BeyondTheCapsNamesFoldUnlessARewriteHasThem) {
  Registry registry;
  RoutingMetrics metrics(registry);
  metrics.ProtectModels({{}, {{"r", 0, {{{"kept"}, {{"target", 1}}}}}}});
  for (int i = 0; i < 1000; ++i) metrics.For({"m" + std::to_string(i), "m0", "flow", 0});
  EXPECT_EQ(metrics.For({"m999", "m0", "flow", 0}).model, "m999");
  EXPECT_EQ(metrics.For({"m1000", "m0", "flow", 0}).model, "other");
  EXPECT_EQ(metrics.For({"kept", "target", "flow", 0}).model, "kept");
  EXPECT_EQ(metrics.For({"kept", "target", "flow", 0}).target_model, "target");
  for (int i = 0; i < 999; ++i) metrics.For({"m0", "m0", std::to_string(i), 0});
  EXPECT_EQ(metrics.For({"m0", "m0", "998", 0}).fairness_id, "998");
  EXPECT_EQ(metrics.For({"m0", "m0", "one more", 0}).fairness_id, "other");
}

TEST(RoutingMetrics, ValuesThatWouldSpoilThePageFold) {
  Registry registry;
  RoutingMetrics metrics(registry);
  for (const std::string& bad : {std::string("\xff"), std::string("a\nb"), std::string(300, 'x'),
                                 std::string("\xc0\x80"), std::string("\xed\xa0\x80")}) {
    EXPECT_EQ(metrics.For({"m", "m", bad, 0}).fairness_id, "other");
  }
  EXPECT_EQ(metrics.For({"m", "m", "zürich 東京", 0}).fairness_id, "zürich 東京");
}

}  // namespace
}  // namespace warmpath::routing
