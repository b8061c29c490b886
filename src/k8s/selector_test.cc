#include "k8s/selector.h"

#include <gtest/gtest.h>

namespace warmpath::k8s {
namespace {

using Labels = std::map<std::string, std::string>;

bool Matches(std::string_view selector, const Labels& labels) {
  return LabelSelector::Parse(selector).value().Matches(labels);
}

TEST(LabelSelector, RequiresEveryPart) {
  const Labels labels{{"llm-d.ai/role", "decode"}, {"tier", ""}, {"app", "vllm"}};
  EXPECT_TRUE(Matches("llm-d.ai/role=decode,app == vllm", labels));
  EXPECT_FALSE(Matches("llm-d.ai/role=decode,app=other", labels));
  EXPECT_TRUE(Matches("tier=", labels));
  EXPECT_FALSE(Matches("missing=", labels));
  EXPECT_TRUE(Matches("", labels));
}

TEST(LabelSelector, TreatsAMissingLabelAsDifferentFromEveryValue) {
  EXPECT_TRUE(Matches("a!=b", {}));
  EXPECT_FALSE(Matches("a!=b", {{"a", "b"}}));
  EXPECT_TRUE(Matches("a notin (b, c)", {}));
  EXPECT_FALSE(Matches("a notin (b, c)", {{"a", "c"}}));
  EXPECT_TRUE(Matches("a in (b,c)", {{"a", "c"}}));
  EXPECT_FALSE(Matches("a in (b,c)", {}));
  EXPECT_TRUE(Matches("a in (b,)", {{"a", ""}}));
}

TEST(LabelSelector, AsksForPresence) {
  EXPECT_TRUE(Matches("a, !b", {{"a", "x"}}));
  EXPECT_FALSE(Matches("a, !b", {{"a", "x"}, {"b", ""}}));
  EXPECT_FALSE(Matches("a", {}));
  EXPECT_TRUE(Matches("in", {{"in", "x"}}));  // an operator's name is a key like any other
}

TEST(LabelSelector, PrintsWhatTheApiTakes) {
  for (const char* text :
       {"a=b", "a!=b", "a in (b,c)", "a notin (b)", "a", "!a", "a=", "x.y/a=b,!c,d in (e,f)"}) {
    EXPECT_EQ(LabelSelector::Parse(text).value().ToString(), text);
  }
  EXPECT_EQ(LabelSelector::Parse(" a == b , c ").value().ToString(), "a=b,c");
  EXPECT_EQ(LabelSelector::Of({{"b", "2"}, {"a", "1"}}).ToString(), "a=1,b=2");
  EXPECT_TRUE(LabelSelector::Of({{"a", "1"}}).Matches({{"a", "1"}, {"c", ""}}));
}

TEST(LabelSelector, NamesThePlaceOfAMistake) {
  for (const char* bad :
       {",",   "a,", "a=b=c", "a b", "a in b", "a in (b", "a in (b c)", "!a=b",   "!",   "a<1",
        "a>1", "-a", "a/",    "/a",  "A_/b",   "a=-",     "=b",         "a=b,,c", "(a)", "a/b/c"}) {
    const auto selector = LabelSelector::Parse(bad);
    ASSERT_FALSE(selector) << bad;
    EXPECT_NE(selector.error().message.find(bad), std::string::npos);
    EXPECT_NE(selector.error().message.find("at byte"), std::string::npos);
  }
  EXPECT_FALSE(LabelSelector::Parse(std::string(100'000, 'a')));
}

}  // namespace
}  // namespace warmpath::k8s
