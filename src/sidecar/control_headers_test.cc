#include "sidecar/control_headers.h"

#include <gtest/gtest.h>

namespace warmpath::sidecar {
namespace {

TEST(ControlHeaders, NameTheLegThatIsAskedFor) {
  EXPECT_EQ(DisaggregationHeader({{"X-Prefiller-Host-Port", "10.0.0.1:8000"}}),
            "x-prefiller-host-port");
  EXPECT_EQ(DisaggregationHeader({{"x-encoder-hosts-ports", "10.0.0.1:8000"}}),
            "x-encoder-hosts-ports");
  EXPECT_EQ(DisaggregationHeader({{"x-kv-cache-source-host-port", "10.0.0.1:8000"}}),
            "x-kv-cache-source-host-port");
  EXPECT_EQ(DisaggregationHeader({{"x-prefiller-host-port", " "}, {"x-request-id", "1"}}), "");
  EXPECT_EQ(DisaggregationHeader({{"x-data-parallel-host-port", "10.0.0.1:8000"}}), "");
}

TEST(ControlHeaders, FieldsOfOneConnectionDoNotTravel) {
  const net::Headers left = EndToEnd({{"Host", "a"},
                                      {"Connection", "keep-alive, X-Private"},
                                      {"X-Private", "1"},
                                      {"Keep-Alive", "timeout=5"},
                                      {"TE", "trailers"},
                                      {"Expect", "100-continue"},
                                      {"Transfer-Encoding", "chunked"},
                                      {"Authorization", "Bearer k"}});
  ASSERT_EQ(left.fields().size(), 2u);
  EXPECT_EQ(left.Get("Host"), "a");
  EXPECT_EQ(left.Get("authorization"), "Bearer k");
}

TEST(ControlHeaders, AnUpgradeNeedsBothFields) {
  EXPECT_EQ(UpgradeOf({{"Upgrade", "websocket"}, {"Connection", "keep-alive, Upgrade"}}),
            "websocket");
  EXPECT_EQ(UpgradeOf({{"Upgrade", "websocket"}}), "");
  EXPECT_EQ(UpgradeOf({{"Upgrade", "h2c"}, {"Connection", "Upgrade, HTTP2-Settings"}}), "");
}

TEST(ControlHeaders, ErrorsAreShapedAsOpenAis) {
  EXPECT_EQ(ErrorBody(503, "no \"engine\"", "engine_unreachable"),
            R"({"error":{"message":"no \"engine\"","type":"server_error","param":null,)"
            R"("code":"engine_unreachable"}})");
  EXPECT_NE(ErrorBody(400, "x", "y").find("invalid_request_error"), std::string::npos);
}

}  // namespace
}  // namespace warmpath::sidecar
