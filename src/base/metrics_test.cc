#include "base/metrics.h"

#include <gtest/gtest.h>

namespace warmpath {
namespace {

bool Has(const Registry& registry, const std::string& line) {
  return ("\n" + registry.Render()).find("\n" + line + "\n") != std::string::npos;
}

TEST(MetricAlias, SumsTheSeriesThatAgreeInTheKeptLabels) {
  Registry registry;
  registry.AddAlias("old_total", "new_total", {{"model", "model_name"}});
  EXPECT_EQ(registry.Render().find("old_total"), std::string::npos) << "no such family yet";
  registry.AddCounter("new_total", "Help.", {{"model", "a"}, {"flow", "x"}}).Add(2);
  registry.AddCounter("new_total", "Help.", {{"model", "a"}, {"flow", "y"}}).Add(3);
  registry.AddCounter("new_total", "Help.", {{"model", "b"}, {"flow", "x"}}).Add(4);
  EXPECT_TRUE(Has(registry, "# TYPE old_total counter"));
  EXPECT_TRUE(Has(registry, "# HELP old_total Deprecated: new_total."));
  EXPECT_TRUE(Has(registry, "old_total{model_name=\"a\"} 5"));
  EXPECT_TRUE(Has(registry, "old_total{model_name=\"b\"} 4"));
  EXPECT_TRUE(Has(registry, "new_total{flow=\"y\",model=\"a\"} 3"));
}

TEST(MetricAlias, SumsHistogramsBucketByBucket) {
  Registry registry;
  registry.AddAlias("old_seconds", "new_seconds", {});
  registry.AddHistogram("new_seconds", "Help.", {1, 10}, {{"flow", "x"}}).Observe(0.5);
  registry.AddHistogram("new_seconds", "Help.", {1, 10}, {{"flow", "y"}}).Observe(5);
  EXPECT_TRUE(Has(registry, "old_seconds_bucket{le=\"1\"} 1"));
  EXPECT_TRUE(Has(registry, "old_seconds_bucket{le=\"10\"} 2"));
  EXPECT_TRUE(Has(registry, "old_seconds_bucket{le=\"+Inf\"} 2"));
  EXPECT_TRUE(Has(registry, "old_seconds_sum 5.5"));
  EXPECT_TRUE(Has(registry, "old_seconds_count 2"));
}

TEST(MetricAlias, YieldsToAFamilyOfThatName) {
  Registry registry;
  registry.AddAlias("old", "new", {});
  registry.AddGauge("new", "Help.").Set(1);
  registry.AddGauge("old", "Help.").Set(2);
  EXPECT_TRUE(Has(registry, "old 2"));
  EXPECT_FALSE(Has(registry, "old 1"));
}

}  // namespace
}  // namespace warmpath
