#include "load/record.h"

#include <gtest/gtest.h>

#include "codec/json.h"
#include "load/bench.h"

namespace warmpath::load {
namespace {

TEST(Quantile, IsLinearBetweenRanks) {
  const std::vector<float> values{1, 2, 3, 4};
  EXPECT_DOUBLE_EQ(Quantile(values, 0), 1);
  EXPECT_DOUBLE_EQ(Quantile(values, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(Quantile(values, 1), 4);
  EXPECT_DOUBLE_EQ(Quantile({}, 0.5), 0);
  const std::vector<float> one{7};
  EXPECT_DOUBLE_EQ(Quantile(one, 0.99), 7);
}

TEST(Summarise, OneToHundred) {
  std::vector<float> values;
  for (int i = 100; i >= 1; --i) values.push_back(static_cast<float>(i));
  const Summary summary = Summarise(values);
  EXPECT_EQ(summary.count, 100u);
  EXPECT_DOUBLE_EQ(summary.mean, 50.5);
  EXPECT_NEAR(summary.p50, 50.5, 1e-9);
  EXPECT_NEAR(summary.p90, 90.1, 1e-9);
  EXPECT_NEAR(summary.p99, 99.01, 1e-9);
  EXPECT_DOUBLE_EQ(summary.max, 100);
}

TEST(Median, OddEvenAndEmpty) {
  EXPECT_DOUBLE_EQ(Median({3, 1, 2}), 2);
  EXPECT_DOUBLE_EQ(Median({4, 1, 2, 3}), 2.5);
  EXPECT_DOUBLE_EQ(Median({}), 0);
}

RequestRecord Answered(double start, std::string endpoint, uint32_t cached, uint32_t predicted) {
  RequestRecord record;
  record.start = start;
  record.ttft = 0.1f;
  record.e2e = 1.0f;
  record.prompt_tokens = 100;
  record.cached_tokens = cached;
  record.completion_tokens = 10;
  record.predicted_cached = predicted;
  record.endpoint = std::move(endpoint);
  return record;
}

TEST(Report, AddsUpWhatWasAnswered) {
  std::vector<RequestRecord> records{Answered(0, "a", 0, 0), Answered(1, "a", 80, 80),
                                     Answered(2, "a", 80, 64), Answered(3, "b", 64, 64)};
  RequestRecord failed;
  failed.start = 1;
  failed.error = "connect";
  records.push_back(failed);

  const SideReport report = BuildReport("x", records, {0.01f, 0.03f}, 4);
  EXPECT_EQ(report.requests, 5u);
  EXPECT_EQ(report.errors, 1u);
  EXPECT_EQ(report.error_kinds.at("connect"), 1u);
  EXPECT_DOUBLE_EQ(report.seconds, 4);
  EXPECT_DOUBLE_EQ(report.request_rate, 1);
  EXPECT_DOUBLE_EQ(report.output_tokens_per_second, 10);
  EXPECT_DOUBLE_EQ(report.hit_rate, 224.0 / 400);
  EXPECT_EQ(report.endpoint_requests.at("a"), 3u);
  EXPECT_DOUBLE_EQ(report.imbalance, 3.0);  // 3 of 4 requests, four endpoints: mean 1
  EXPECT_DOUBLE_EQ(report.prediction_exact, 0.75);
  EXPECT_DOUBLE_EQ(report.prediction_error, 4);
  EXPECT_NEAR(report.itl.mean, 0.02, 1e-6);
  EXPECT_NEAR(report.ttft.p99, 0.1, 1e-6);
}

TEST(Report, NothingAnsweredIsAllZero) {
  const SideReport report = BuildReport("x", {}, {}, 0);
  EXPECT_EQ(report.requests, 0u);
  EXPECT_DOUBLE_EQ(report.hit_rate, 0);
  EXPECT_DOUBLE_EQ(report.imbalance, 0);
}

TEST(Report, JsonHasTheContractsFieldsAtTopLevel) {
  BenchReport report;
  report.workload = "guide";
  report.rate = 3;
  report.sides.push_back(BuildReport("x", {Answered(0, "a", 50, 50)}, {}, 0));
  const auto json = codec::ParseJson(FormatJson(report));
  ASSERT_TRUE(json);
  EXPECT_EQ(codec::FindInt(*json, "requests"), 1);
  EXPECT_EQ(codec::FindInt(*json, "errors"), 0);
  for (const char* latency : {"ttft_ms", "itl_ms", "e2e_ms"}) {
    const codec::Json* object = codec::Find(*json, latency);
    ASSERT_NE(object, nullptr);
    for (const char* value : {"mean", "p50", "p90", "p99"}) {
      EXPECT_TRUE(codec::FindDouble(*object, value)) << latency << ' ' << value;
    }
  }
  EXPECT_TRUE(codec::FindDouble(*json, "output_tokens_per_second"));
  EXPECT_EQ(codec::FindDouble(*json, "hit_rate"), 0.5);
  EXPECT_EQ(codec::FindInt(*codec::Find(*json, "endpoint_requests"), "a"), 1);
  EXPECT_EQ(codec::FindDouble(*json, "imbalance"), 1.0);
  EXPECT_EQ(codec::FindDouble(*json, "prediction_exact"), 1.0);
  EXPECT_EQ(codec::Find(*json, "sides"), nullptr);
}

TEST(Report, TwoSidesAreSetSideBySideWithRatios) {
  BenchReport report;
  RequestRecord slow = Answered(0, "a", 0, 0);
  slow.ttft = 0.4f;
  slow.predicted_cached.reset();
  report.sides.push_back(BuildReport("round robin", {slow}, {}, 0));
  report.sides.push_back(BuildReport("precise", {Answered(0, "a", 80, 80)}, {}, 0));
  const std::string table = FormatTable(report);
  EXPECT_NE(table.find("round robin"), std::string::npos);
  EXPECT_NE(table.find("4.0x lower"), std::string::npos) << table;
  const auto json = codec::ParseJson(FormatJson(report));
  ASSERT_TRUE(json);
  EXPECT_EQ(codec::Find(*json, "sides")->get_array().size(), 2u);
  EXPECT_TRUE(codec::Find(*json, "prediction_exact")->is_null());
}

}  // namespace
}  // namespace warmpath::load
