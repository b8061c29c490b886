#include "fleet/engine_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace warmpath::fleet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

std::string ErrorOf(std::string_view text) {
  const auto spec = ParseMetricSpec(text);
  if (spec) return "accepted";
  EXPECT_EQ(spec.error().code, Code::kInvalidArgument);
  return spec.error().message;
}

TEST(ParseMetricSpec, ReadsNamesAndLabels) {
  EXPECT_EQ(ParseMetricSpec("vllm:num_requests_waiting")->name, "vllm:num_requests_waiting");
  const auto labelled = ParseMetricSpec(" requests { type = waiting, model=\"a,b}\\\"\" , } ");
  ASSERT_TRUE(labelled) << labelled.error().message;
  EXPECT_EQ(labelled->name, "requests");
  EXPECT_THAT(labelled->labels, ElementsAre(Pair("type", "waiting"), Pair("model", "a,b}\"")));
  EXPECT_TRUE(ParseMetricSpec("x{}")->labels.empty());
  EXPECT_THAT(ParseMetricSpec("x{a=}")->labels, ElementsAre(Pair("a", "")));
  EXPECT_EQ(ParseMetricSpec("  ")->name, "");
}

TEST(ParseMetricSpec, SaysWhatIsWrong) {
  EXPECT_THAT(ErrorOf("9lives"), AllOf(HasSubstr("\"9lives\""), HasSubstr("a metric name")));
  EXPECT_THAT(ErrorOf("a b"), HasSubstr("a metric name"));
  EXPECT_THAT(ErrorOf("{a=b}"), HasSubstr("a metric name"));
  EXPECT_THAT(ErrorOf("x{a=b"), HasSubstr("lacks the closing }"));
  EXPECT_THAT(ErrorOf("x{"), HasSubstr("lacks the closing }"));
  EXPECT_THAT(ErrorOf("x{a=\"b}"), HasSubstr("lacks the closing quote"));
  EXPECT_THAT(ErrorOf("x{a}"), HasSubstr("\"a\" is not label=value"));
  EXPECT_THAT(ErrorOf("x{a:b=c}"), HasSubstr("is not label=value"));
  EXPECT_THAT(ErrorOf("x{a=b,a=c}"), HasSubstr("label a given twice"));
  EXPECT_THAT(ErrorOf("x{a=b}c"), HasSubstr("nothing may follow"));
  EXPECT_THAT(ErrorOf("x{a=\"b\"c=d}"), HasSubstr("lacks the closing }"));
  EXPECT_THAT(ErrorOf(std::string(kMaxMetricSpecBytes + 1, 'x')), HasSubstr("over the limit"));
  std::string many = "x{";
  for (size_t i = 0; i <= kMaxMetricSpecLabels; ++i) many += "l" + std::to_string(i) + "=1,";
  EXPECT_THAT(ErrorOf(many + "}"), HasSubstr("more than 16 labels"));
}

TEST(FindEngine, OwnEnginesComeBeforeTheBuiltInOnes) {
  ScrapeConfig config;
  for (const char* engine : {"vllm", "sglang", "trtllm-serve", "triton-tensorrt-llm", "triton"}) {
    ASSERT_NE(FindEngine(config, engine), nullptr) << engine;
    EXPECT_FALSE(FindEngine(config, engine)->queued.name.empty()) << engine;
  }
  EXPECT_EQ(FindEngine(config, "other"), nullptr);
  EngineMetrics own;
  own.engine = "vllm";
  own.queued.name = "my_queue";
  config.engines.push_back(own);
  EXPECT_EQ(FindEngine(config, "vllm")->queued.name, "my_queue");
}

}  // namespace
}  // namespace warmpath::fleet
