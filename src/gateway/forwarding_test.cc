#include "gateway/forwarding.h"

#include <gtest/gtest.h>

namespace warmpath::gateway {
namespace {

TEST(UpstreamHeaders, StripsWhatIsNotForTheEngine) {
  const net::Headers client{{"Host", "gateway"},
                            {"Authorization", "Bearer secret"},
                            {"Connection", "keep-alive, X-Hop"},
                            {"X-Hop", "1"},
                            {"Expect", "100-continue"},
                            {"Content-Length", "5"},
                            {"TE", "trailers"},
                            {"x-gateway-destination-endpoint", "10.0.0.1:80"},
                            {"X-Data-Parallel-Rank", "3"},
                            {"X-Warmpath-Anything", "1"},
                            {"x-gateway-destination-endpoint-subset", "x"},
                            {"x-prefiller-host-port", "evil:1"},
                            {"x-request-id", "other"},
                            {"Accept", "*/*"}};
  const net::Headers sent = UpstreamHeaders(client, "id-1", "key");
  const std::vector<net::Headers::Field> expected = {
      {"Authorization", "Bearer secret"}, {"Accept", "*/*"}, {"x-request-id", "id-1"}};
  EXPECT_EQ(sent.fields(), expected);
}

TEST(RoutingHeadersOf, KeepsWhatIsAClientsToSay) {
  const net::Headers kept = RoutingHeadersOf({{"x-llm-d-inference-objective", "batch"},
                                              {"X-Session-Token", "t"},
                                              {"X-LLM-D-Model-Name-Rewrite", "m"},
                                              {"x-gateway-destination-endpoint-subset", "e"},
                                              {"x-data-parallel-rank", "1"},
                                              {"x-prefiller-host-port", "e"}});
  const std::vector<net::Headers::Field> expected = {{"x-llm-d-inference-objective", "batch"},
                                                     {"X-Session-Token", "t"}};
  EXPECT_EQ(kept.fields(), expected);
}

TEST(UpstreamHeaders, TheEngineKeyStandsInForAMissingAuthorization) {
  EXPECT_EQ(UpstreamHeaders({}, "id", "key").Get("authorization"), "Bearer key");
  EXPECT_FALSE(UpstreamHeaders({}, "id", "").Get("authorization"));
}

TEST(DownstreamHeaders, KeepTheLengthAndCarryTheId) {
  const net::Headers sent = DownstreamHeaders({{"Content-Length", "5"},
                                               {"Connection", "close"},
                                               {"Transfer-Encoding", "chunked"},
                                               {"X-Request-Id", "engine"}},
                                              "mine");
  const std::vector<net::Headers::Field> expected = {{"Content-Length", "5"},
                                                     {"x-request-id", "mine"}};
  EXPECT_EQ(sent.fields(), expected);
}

}  // namespace
}  // namespace warmpath::gateway
