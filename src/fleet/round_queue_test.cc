#include "fleet/round_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

namespace warmpath::fleet {
namespace {

using namespace std::chrono_literals;

constexpr TimePoint kStart{1h};

TEST(RoundQueue, BeginsAtOnceWhileThereIsRoom) {
  RoundQueue queue(2, 0);
  EXPECT_TRUE(queue.Begin(1, false, kStart));
  EXPECT_TRUE(queue.Begin(2, false, kStart));
  EXPECT_FALSE(queue.Begin(3, false, kStart));
  EXPECT_EQ(queue.Next(kStart), std::nullopt);
  EXPECT_EQ(queue.NextAt(), std::nullopt);
  queue.Ended();
  EXPECT_EQ(queue.Next(kStart), 3u);
  EXPECT_EQ(queue.Next(kStart), std::nullopt);
}

TEST(RoundQueue, NeverBeginsMoreThanAllowedInAnySecond) {
  for (const uint32_t limit : {1u, 7u, 50u, 500u}) {
    RoundQueue queue(1'000'000, limit);
    std::vector<TimePoint> begun;
    for (EndpointId id = 1; id <= 5000; ++id) {
      if (queue.Begin(id, false, kStart)) begun.push_back(kStart);
    }
    for (TimePoint now = kStart; now < kStart + 5s; now += 1ms) {
      while (queue.Next(now)) begun.push_back(now);
    }
    size_t most = 0;
    for (size_t from = 0, to = 0; from < begun.size(); ++from) {
      while (to < begun.size() && begun[to] < begun[from] + 1s) ++to;
      most = std::max(most, to - from);
    }
    EXPECT_LE(most, limit);
    EXPECT_GE(begun.size(), std::min<size_t>(5000, 4 * limit)) << limit;  // and comes near it
  }
}

TEST(RoundQueue, SaysWhenTheNextMayBegin) {
  RoundQueue queue(10, 10);
  EXPECT_TRUE(queue.Begin(1, false, kStart));
  EXPECT_FALSE(queue.Begin(2, false, kStart));
  EXPECT_EQ(queue.Next(kStart), std::nullopt);
  const auto at = queue.NextAt();
  ASSERT_TRUE(at);
  EXPECT_GT(*at, kStart + 50ms);
  EXPECT_LE(*at, kStart + 101ms);
  EXPECT_EQ(queue.Next(*at), 2u);
  EXPECT_EQ(queue.NextAt(), std::nullopt);
}

TEST(RoundQueue, ServesTrafficFirstAndNobodyNever) {
  RoundQueue queue(1, 0);
  ASSERT_TRUE(queue.Begin(1000, true, kStart));
  for (EndpointId id = 1; id <= 8; ++id) queue.Begin(id, false, kStart);
  for (EndpointId id = 101; id <= 108; ++id) queue.Begin(id, true, kStart);
  std::vector<EndpointId> order;
  for (int i = 0; i < 16; ++i) {
    queue.Ended();
    const auto next = queue.Next(kStart);
    ASSERT_TRUE(next);
    order.push_back(*next);
  }
  EXPECT_EQ(order, (std::vector<EndpointId>{101, 102, 103, 1, 104, 105, 106, 2, 107, 108, 3, 4, 5,
                                            6, 7, 8}));
}

TEST(RoundQueue, HurriesWhoGetsTrafficWhileWaiting) {
  RoundQueue queue(1, 0);
  ASSERT_TRUE(queue.Begin(1000, true, kStart));
  for (EndpointId id = 1; id <= 3; ++id) queue.Begin(id, false, kStart);
  EXPECT_FALSE(queue.Begin(3, true, kStart));
  EXPECT_FALSE(queue.Begin(3, false, kStart));
  EXPECT_EQ(queue.waiting(), 3u);
  std::vector<EndpointId> order;
  for (int i = 0; i < 3; ++i) {
    queue.Ended();
    order.push_back(queue.Next(kStart).value_or(0));
  }
  EXPECT_EQ(order, (std::vector<EndpointId>{3, 1, 2}));
  queue.Ended();
  EXPECT_EQ(queue.Next(kStart), std::nullopt);
}

}  // namespace
}  // namespace warmpath::fleet
