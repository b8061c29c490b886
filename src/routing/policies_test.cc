#include "routing/policies.h"

#include <gtest/gtest.h>

namespace warmpath::routing {
namespace {

TEST(Policies, AnUnknownObjectiveHasPriorityZero) {
  const Policies policies{{{"batch", -1}, {"chat", 10}}, {}};
  EXPECT_EQ(policies.PriorityOf("batch"), -1);
  EXPECT_EQ(policies.PriorityOf("chat"), 10);
  EXPECT_EQ(policies.PriorityOf("other"), 0);
  EXPECT_EQ(policies.PriorityOf(""), 0);
}

TEST(Policies, AnExactRuleWinsOverAGenericOneOfAnOlderObject) {
  const Policies policies{
      {}, {{"generic", 10, {{{}, {{"all", 1}}}}}, {"exact", 20, {{{"m", "n"}, {{"mine", 1}}}}}}};
  EXPECT_EQ(policies.Rewrite("m", 0).model, "mine");
  EXPECT_EQ(policies.Rewrite("n", 0).rewrite, "exact");
  EXPECT_EQ(policies.Rewrite("x", 0).model, "all");
  EXPECT_EQ(policies.Rewrite("", 0).rewrite, "generic");
  EXPECT_TRUE(policies.has_generic_rule());
}

TEST(Policies, TheOldestObjectWinsThenListOrder) {
  const auto rule = [](const char* to) { return std::vector<RewriteRule>{{{"m"}, {{to, 1}}}}; };
  const Policies by_age{{},
                        {{"none", 0, rule("0")}, {"young", 9, rule("9")}, {"old", 3, rule("3")}}};
  EXPECT_EQ(by_age.Rewrite("m", 0).model, "3");
  const Policies tied{{}, {{"first", 3, rule("a")}, {"second", 3, rule("b")}}};
  EXPECT_EQ(tied.Rewrite("m", 0).model, "a");
  const Policies in_one{{}, {{"one", 3, {{{"m"}, {{"a", 1}}}, {{"m"}, {{"b", 1}}}}}}};
  EXPECT_EQ(in_one.Rewrite("m", 0).model, "a");
  EXPECT_FALSE(in_one.has_generic_rule());
}

TEST(Policies, DrawsTargetsByWeight) {
  const Policies policies{{}, {{"canary", 0, {{{"m"}, {{"stable", 9}, {"canary", 1}}}}}}};
  int canaries = 0;
  for (uint64_t draw = 0; draw < 1000; ++draw)
    canaries += policies.Rewrite("m", draw).model == "canary" ? 1 : 0;
  EXPECT_EQ(canaries, 100);
  const Policies zero{{}, {{"zero", 0, {{{"m"}, {{"a", 0}, {"b", 0}}}}}}};
  EXPECT_EQ(zero.Rewrite("m", 1).model, "b");
}

TEST(Policies, ARuleWithoutTargetsRewritesNothing) {
  const Policies policies{{}, {{"keep", 1, {{{"m"}, {}}}}, {"all", 2, {{{}, {{"other", 1}}}}}}};
  EXPECT_EQ(policies.Rewrite("m", 0).model, "m");
  EXPECT_EQ(policies.Rewrite("m", 0).rewrite, "");
}

TEST(Policies, WithoutRulesNothingChanges) {
  EXPECT_EQ(Policies{}.Rewrite("m", 7).model, "m");
  EXPECT_EQ(Policies{}.Rewrite("m", 7).rewrite, "");
}

}  // namespace
}  // namespace warmpath::routing
