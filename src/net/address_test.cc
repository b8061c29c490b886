#include "net/address.h"

#include <gtest/gtest.h>

namespace warmpath::net {
namespace {

TEST(ParseHostPort, ReadsEveryForm) {
  EXPECT_EQ(*ParseHostPort("127.0.0.1:8080"), (HostPort{"127.0.0.1", 8080}));
  EXPECT_EQ(*ParseHostPort("[::1]:8080"), (HostPort{"::1", 8080}));
  EXPECT_EQ(*ParseHostPort(":9090"), (HostPort{"0.0.0.0", 9090}));
  EXPECT_EQ(*ParseHostPort("engine-0.svc.local:0"), (HostPort{"engine-0.svc.local", 0}));
}

TEST(ParseHostPort, RefusesWhatIsAmbiguous) {
  for (const char* text :
       {"", "8080", "host", "host:", "host:65536", "host:-1", "host:+1", "host:80x", "::1:80",
        "[::1]", "[::1]x:80", "[::1:80", "[host]:80", "a b:80", "a/b:80"}) {
    EXPECT_FALSE(ParseHostPort(text)) << text;
  }
}

TEST(HostPort, WritesIpv6InBrackets) {
  EXPECT_EQ((HostPort{"::1", 80}).ToString(), "[::1]:80");
  EXPECT_EQ((HostPort{"10.0.0.1", 80}).ToString(), "10.0.0.1:80");
}

TEST(ParseUrl, ReadsSchemeHostPortAndPath) {
  const auto url = ParseUrl("http://10.0.0.5:8000/prefix/");
  ASSERT_TRUE(url);
  EXPECT_FALSE(url->tls);
  EXPECT_EQ(url->address, (HostPort{"10.0.0.5", 8000}));
  EXPECT_EQ(url->base_path, "/prefix");
  EXPECT_EQ(url->ToString(), "http://10.0.0.5:8000/prefix");
  EXPECT_EQ(ParseUrl("http://name")->address.port, 80);
  EXPECT_EQ(ParseUrl("https://name/")->address.port, 443);
  EXPECT_EQ(ParseUrl("http://name:80/")->ToString(), "http://name");
  EXPECT_EQ(ParseUrl("HTTP://[fe80::1]:81")->address, (HostPort{"fe80::1", 81}));
}

TEST(ParseUrl, RefusesOthers) {
  for (const char* text :
       {"", "name:80", "ftp://x", "http://", "http:///x", "http://a@b", "http://a?x=1",
        "http://a#f", "http://a:0", "http://a:b", "http://a/b c", "http://::1/"}) {
    EXPECT_FALSE(ParseUrl(text)) << text;
  }
}

}  // namespace
}  // namespace warmpath::net
