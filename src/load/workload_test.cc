#include "load/workload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "codec/json.h"
#include "load/random.h"

namespace warmpath::load {
namespace {

// Numbers in this file come from a second implementation of the draw (Python integers), not from
// this one.

std::unique_ptr<Workload> Make(WorkloadOptions options) {
  options.model = "m";
  auto workload = Workload::Create(options);
  EXPECT_TRUE(workload) << workload.error().message;
  return std::move(*workload);
}

TEST(Random, IsSplitMix64) {
  Random random(0);
  EXPECT_EQ(random.Next(), 0xE220A8397B1DCDAFu);
  EXPECT_EQ(random.Next(), 0x6E789E6AA1B965F4u);
  EXPECT_EQ(random.Next(), 0x06C45D188009454Fu);
}

TEST(Random, BoundsHold) {
  Random random(7);
  for (int i = 0; i < 10'000; ++i) {
    EXPECT_LT(random.Below(3), 3u);
    const double unit = random.Unit();
    EXPECT_GE(unit, 0);
    EXPECT_LT(unit, 1);
    EXPECT_GE(random.Exponential(2), 0);
  }
}

TEST(SharedPrefix, OrderIsTheSameOnEveryMachine) {
  const auto workload = Make({});
  ASSERT_EQ(workload->prompts(), 150u);
  const std::vector<uint64_t> first{107, 113, 52, 95, 101, 123, 67, 76};
  uint64_t checksum = 0;
  for (uint64_t i = 0; i < 150; ++i) {
    if (i < first.size()) EXPECT_EQ(workload->Order(i), first[i]);
    checksum += i * workload->Order(i);
  }
  EXPECT_EQ(checksum, 820'443u);
  EXPECT_EQ(Make({.seed = 2})->Order(0), 135u);
}

TEST(SharedPrefix, EveryPassSendsEveryPromptOnceInTheSameOrder) {
  const auto workload = Make({.seed = 3});
  std::set<uint64_t> seen;
  for (uint64_t i = 0; i < 150; ++i) {
    seen.insert(workload->Order(i));
    EXPECT_EQ(workload->Order(i), workload->Order(i + 150));
    EXPECT_EQ(workload->Order(i), workload->Order(i + 750));
  }
  EXPECT_EQ(seen.size(), 150u);
}

TEST(SharedPrefix, TokensAreTheSameOnEveryMachine) {
  const auto ids = Make({})->Tokens(0);
  ASSERT_EQ(ids.size(), 1280u);
  EXPECT_EQ((std::vector<uint32_t>(ids.begin(), ids.begin() + 4)),
            (std::vector<uint32_t>{2741, 18123, 6030, 16949}));
  EXPECT_EQ((std::vector<uint32_t>(ids.begin() + 1024, ids.begin() + 1028)),
            (std::vector<uint32_t>{21441, 16516, 10087, 1637}));
  EXPECT_EQ(std::accumulate(ids.begin(), ids.end(), uint64_t{0}), 19'395'601u);
}

TEST(SharedPrefix, AGroupSharesExactlyItsSystemPrompt) {
  const auto workload =
      Make({.groups = 3, .prompts_per_group = 2, .system_tokens = 32, .question_tokens = 16});
  std::vector<std::vector<uint32_t>> by_pair(6);
  for (uint64_t i = 0; i < 6; ++i) by_pair[workload->Order(i)] = workload->Tokens(i);
  const auto shared = [&](size_t a, size_t b) {
    return std::mismatch(by_pair[a].begin(), by_pair[a].end(), by_pair[b].begin()).first -
           by_pair[a].begin();
  };
  EXPECT_EQ(shared(0, 1), 32);
  EXPECT_EQ(shared(2, 3), 32);
  EXPECT_LT(shared(0, 2), 4);
}

TEST(SharedPrefix, BodyHoldsTheTokensAndAsksForUsage) {
  const auto workload = Make({});
  const auto body = codec::ParseJson(workload->Body(4));
  ASSERT_TRUE(body) << body.error().message;
  EXPECT_EQ(codec::FindString(*body, "model"), "m");
  EXPECT_EQ(codec::FindInt(*body, "max_tokens"), 32);
  EXPECT_EQ(codec::FindBool(*body, "stream"), true);
  EXPECT_EQ(codec::FindBool(*codec::Find(*body, "stream_options"), "include_usage"), true);
  const auto& prompt = codec::Find(*body, "prompt")->get_array();
  const auto ids = workload->Tokens(4);
  ASSERT_EQ(prompt.size(), ids.size());
  for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(prompt[i].to_number<uint32_t>(), ids[i]);
}

TEST(Unique, RequestsShareNothing) {
  const auto workload = Make({.kind = WorkloadKind::kUnique});
  EXPECT_EQ(workload->Tokens(7)[0], 1812u);
  EXPECT_EQ(workload->Tokens(7)[1], 9796u);
  EXPECT_EQ(workload->Tokens(7)[2], 19025u);
  EXPECT_NE(workload->Tokens(1), workload->Tokens(2));
}

TEST(Guide, PromptIsTheGuidesText) {
  const std::string text = GuidePrompt();
  EXPECT_EQ(text.size(), 891u);
  EXPECT_EQ(text.substr(0, 445), text.substr(446));
  EXPECT_EQ(text[445], ' ');
  const auto body =
      codec::ParseJson(Make({.kind = WorkloadKind::kGuide, .output_tokens = 50})->Body(9));
  ASSERT_TRUE(body);
  EXPECT_EQ(codec::FindString(*body, "prompt"), text);
  EXPECT_EQ(codec::FindInt(*body, "max_tokens"), 50);
}

TEST(Workload, BadOptionsAreNamed) {
  WorkloadOptions none;
  none.groups = 0;
  EXPECT_EQ(Workload::Create(none).error().code, Code::kInvalidArgument);
  WorkloadOptions huge;
  huge.groups = 1 << 20;
  huge.prompts_per_group = 1 << 20;
  EXPECT_FALSE(Workload::Create(huge));
  WorkloadOptions empty;
  empty.system_tokens = empty.question_tokens = 0;
  EXPECT_FALSE(Workload::Create(empty));
  EXPECT_FALSE(ParseWorkloadKind("nope"));
}

TEST(Arrivals, ArePoissonAndTheSameOnEveryMachine) {
  const auto arrivals = PoissonArrivals(10, 900, Duration{0}, 1);
  ASSERT_EQ(arrivals.size(), 900u);
  EXPECT_NEAR(ToSeconds(arrivals[0]), 0.052585849, 1e-8);
  EXPECT_NEAR(ToSeconds(arrivals[2]), 0.197084580, 1e-8);
  EXPECT_NEAR(ToSeconds(arrivals[899]), 97.860133788, 1e-6);
  EXPECT_TRUE(std::is_sorted(arrivals.begin(), arrivals.end()));
}

TEST(Arrivals, StopAtTheDuration) {
  const auto arrivals = PoissonArrivals(1000, 0, std::chrono::seconds(10), 5);
  EXPECT_NEAR(static_cast<double>(arrivals.size()), 10'000, 500);
  EXPECT_LT(arrivals.back(), std::chrono::seconds(10));
}

}  // namespace
}  // namespace warmpath::load
