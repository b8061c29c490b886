#include "events/bound_identity.h"

#include <gtest/gtest.h>

namespace warmpath::events {
namespace {

TEST(BoundIdentity, ReadsTopics) {
  EXPECT_EQ(ParseBoundTopic("kv@10.0.0.5@Qwen/Qwen3")->host, "10.0.0.5");
  EXPECT_EQ(ParseBoundTopic("kv@10.0.0.5:8000@a@b")->port, 8000);
  EXPECT_EQ(ParseBoundTopic("kv@10.0.0.5:8000@a@b")->model, "a@b");
  EXPECT_EQ(ParseBoundTopic("kv@[fd00::1]:8000@m")->host, "fd00::1");
  EXPECT_EQ(ParseBoundTopic("kv@fd00::1@m")->host, "fd00::1");
  for (const char* bad : {"", "kv@", "kv@10.0.0.5", "kv-events", "kv@pod-1@m", "kv@10.0.0.5:0@m",
                          "kv@10.0.0.5:x@m", "kv@:8000@m"}) {
    EXPECT_FALSE(ParseBoundTopic(bad)) << bad;
  }
}

TEST(BoundIdentity, SpellsAddressesOneWay) {
  EXPECT_EQ(NormalizeAddress("::ffff:127.0.0.1"), "127.0.0.1");
  EXPECT_EQ(NormalizeAddress("[FD00:0::1]"), "fd00::1");
  EXPECT_EQ(NormalizeAddress("host"), "");
}

TEST(BoundIdentity, NeedsThePeersAddressAndExactlyOneEndpoint) {
  BoundIdentity identity;
  identity.Set({{1, {"10.0.0.5"}, 8000}, {2, {"10.0.0.5"}, 8001}, {3, {"10.0.0.6"}, 8000}}, {});
  EXPECT_EQ(identity.Find("kv@10.0.0.5:8001@m", "10.0.0.5").endpoint, 2u);
  EXPECT_EQ(identity.Find("kv@10.0.0.6@m", "::ffff:10.0.0.6").endpoint, 3u);
  EXPECT_STREQ(identity.Find("kv@10.0.0.5@m", "10.0.0.5").reason, "ambiguous_endpoint");
  EXPECT_STREQ(identity.Find("kv@10.0.0.6@m", "10.0.0.5").reason, "peer_address");
  EXPECT_STREQ(identity.Find("kv@10.0.0.7@m", "10.0.0.7").reason, "unknown_endpoint");
  EXPECT_STREQ(identity.Find("kv@10.0.0.6:9@m", "10.0.0.6").reason, "unknown_endpoint");
  EXPECT_STREQ(identity.Find("x", "10.0.0.6").reason, "topic");
}

TEST(BoundIdentity, RemembersSinceWhenItKnowsAnEndpoint) {
  const TimePoint start{std::chrono::hours(1)};
  BoundIdentity identity;
  identity.Set({{1, {"10.0.0.5"}, 8000}}, start);
  identity.Set({{1, {"10.0.0.5"}, 8000}, {2, {"10.0.0.6"}, 8000}}, start + Duration(5));
  EXPECT_EQ(identity.Find("kv@10.0.0.5@m", "10.0.0.5").owner->since, start);
  EXPECT_EQ(identity.Find("kv@10.0.0.6@m", "10.0.0.6").owner->since, start + Duration(5));
}

TEST(BoundIdentity, ResolvesLocalhost) {
  const auto addresses = AddressesOf("localhost");
  EXPECT_FALSE(addresses.empty());
  EXPECT_EQ(AddressesOf("127.0.0.1"), std::vector<std::string>{"127.0.0.1"});
}

}  // namespace
}  // namespace warmpath::events
