#include "codec/prometheus_text.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

namespace warmpath::codec {
namespace {

TEST(PrometheusText, ReadsNamesLabelsAndValues) {
  const std::string text =
      "# HELP a help\n# TYPE a counter\na 1\nb{x=\"1\",y=\"q\\\"\\\\\\n\"} 2.5e3 1700000000\r\n"
      "c { k = \"v\" , } NaN\nd{} +Inf\ne:f_0 -Inf\ng 1e999\n";
  std::map<std::string, double> values;
  std::string escaped;
  const auto stats = ReadPrometheusText(text, [&](const PromSample& s) {
    values[std::string(s.name)] = s.value;
    if (s.name == "b") escaped = s.Label("y");
    if (s.name == "c") EXPECT_EQ(s.Label("k"), "v");
    EXPECT_EQ(s.Label("none"), "");
  });
  ASSERT_TRUE(stats);
  EXPECT_EQ(stats->samples, 6u);
  EXPECT_EQ(stats->bad_lines, 0u);
  EXPECT_EQ(values["a"], 1);
  EXPECT_EQ(values["b"], 2500);
  EXPECT_TRUE(std::isnan(values["c"]));
  EXPECT_EQ(values["d"], INFINITY);
  EXPECT_EQ(values["e:f_0"], -INFINITY);
  EXPECT_EQ(escaped, "q\"\\\n");
}

TEST(PrometheusText, PassesOverBadLinesOnly) {
  int samples = 0;
  const auto stats = ReadPrometheusText(
      "1a 2\na{ 1\na{b} 1\na{b=\"c} 1\na{b=\"c\\\" 1\na x\na\na{b=\"c\" d=\"e\"} 1\nok 3\n",
      [&](const PromSample& s) {
        ++samples;
        EXPECT_EQ(s.name, "ok");
      });
  EXPECT_EQ(samples, 1);
  EXPECT_EQ(stats->bad_lines, 8u);
}

TEST(PrometheusText, BoundsSizeAndLabels) {
  EXPECT_FALSE(ReadPrometheusText("abc 1\n", [](const PromSample&) {}, {.max_bytes = 3}));
  EXPECT_EQ(
      ReadPrometheusText("a{b=\"1\",c=\"2\"} 1\n", [](const PromSample&) {}, {.max_labels = 1})
          ->bad_lines,
      1u);
}

TEST(PrometheusText, ReadsOnlyWhatIsWanted) {
  class Visitor final : public PromVisitor {
   public:
    bool Wants(std::string_view name) override { return name.starts_with('w'); }
    void OnSample(const PromSample& sample) override { sum += sample.value; }
    double sum = 0;
  } visitor;
  const auto stats =
      ReadPrometheusText("w1 1\nx{ never read\nw2{a=\"\\\\\",b=\"\\n\\n\"} 2\n{} 4\nw3\n", visitor);
  ASSERT_TRUE(stats);
  EXPECT_EQ(visitor.sum, 3);
  EXPECT_EQ(stats->samples, 2u);
  EXPECT_EQ(stats->bad_lines, 2u);
}

TEST(PrometheusText, PassesOverLinesOfANameThatIsNotWanted) {
  class Visitor final : public PromVisitor {
   public:
    bool Wants(std::string_view name) override {
      asked += fmt::format("{} ", name);
      return name == "ab" || name == "a:b";
    }
    void OnSample(const PromSample& sample) override { sum += sample.value; }
    std::string asked;
    double sum = 0;
  } visitor;
  const auto stats = ReadPrometheusText(
      "a{x=\"1\"} 1\na{x=\"2\"} 2\na 4\nab 8\na 16\na:b 32\na\nab{x=\"ab\"} 64\nac 1\n", visitor);
  ASSERT_TRUE(stats);
  EXPECT_EQ(visitor.sum, 8 + 32 + 64);
  EXPECT_EQ(stats->samples, 3u);
  EXPECT_EQ(visitor.asked, "a ab a:b ab ac ");
}

TEST(PrometheusText, ReadsARecordedEngine) {
  std::ifstream in(std::string(WARMPATH_TESTDATA) + "/golden/vllm-0.32.0/bs16/metrics_mid.txt");
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  ASSERT_FALSE(text.empty());
  std::string block_size;
  const auto stats = ReadPrometheusText(text, [&](const PromSample& s) {
    if (s.name == "vllm:cache_config_info") block_size = s.Label("block_size");
  });
  EXPECT_EQ(stats->bad_lines, 0u);
  EXPECT_GT(stats->samples, 100u);
  EXPECT_EQ(block_size, "16");
}

}  // namespace
}  // namespace warmpath::codec
