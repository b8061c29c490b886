#include "events/bound_connections.h"

#include <gtest/gtest.h>

namespace warmpath::events {
namespace {

using namespace std::chrono_literals;

constexpr TimePoint kStart{1h};

BoundIdentity::Candidate Owner(fleet::EndpointId endpoint, std::string incarnation,
                               TimePoint since = kStart) {
  BoundIdentity::Candidate owner;
  owner.endpoint = endpoint;
  owner.incarnation = std::move(incarnation);
  owner.since = since;
  return owner;
}

TEST(BoundConnections, SpeakForTheLifeTheyFirstSpokeFor) {
  BoundConnections connections(30s);
  EXPECT_TRUE(connections.Counts(7, Owner(1, "uid-a#0")));
  EXPECT_TRUE(connections.Counts(7, Owner(1, "uid-a#0")));
  EXPECT_FALSE(connections.Counts(7, Owner(2, "uid-b#0")));
  EXPECT_TRUE(connections.Counts(8, Owner(2, "uid-b#0")));
}

TEST(BoundConnections, CountAgainWhenTheSameLifeReturns) {
  BoundConnections connections(30s);
  EXPECT_TRUE(connections.Counts(7, Owner(1, "uid-a#0")));
  EXPECT_TRUE(connections.Counts(7, Owner(2, "uid-a#0")));
}

TEST(BoundConnections, CountWhereNothingTellsLivesApart) {
  BoundConnections connections(30s);
  EXPECT_TRUE(connections.Counts(7, Owner(1, "")));
  EXPECT_TRUE(connections.Counts(7, Owner(2, "uid-b#0")));
  EXPECT_TRUE(connections.Counts(7, Owner(3, "")));
}

TEST(BoundConnections, CountOnceTheyProvedToBeAlive) {
  BoundConnections connections(30s);
  EXPECT_TRUE(connections.Counts(7, Owner(1, "uid-a#0")));
  const auto next = Owner(2, "uid-a#1", kStart + 10s);
  connections.Drained(kStart + 39s);
  EXPECT_FALSE(connections.Counts(7, next));
  connections.Drained(kStart + 40s);
  EXPECT_TRUE(connections.Counts(7, next));
  EXPECT_FALSE(connections.Counts(7, Owner(3, "uid-a#2", kStart + 40s)));
}

TEST(BoundConnections, AreOthersAfterTheirLastWords) {
  BoundConnections connections(30s);
  EXPECT_TRUE(connections.Counts(7, Owner(1, "uid-a#0")));
  connections.Closed(7, kStart);
  connections.Closed(9, kStart);  // never spoke
  connections.Drained(kStart);
  EXPECT_FALSE(connections.Counts(7, Owner(2, "uid-b#0")));
  connections.Drained(kStart + 100ms);
  EXPECT_EQ(connections.size(), 0u);
  EXPECT_TRUE(connections.Counts(7, Owner(2, "uid-b#0")));
}

}  // namespace
}  // namespace warmpath::events
