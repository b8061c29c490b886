#include "gateway/forwarding.h"

#include <gtest/gtest.h>

#include "gateway/api_errors.h"

namespace warmpath::gateway {
namespace {

TEST(RequestId, KeepsAUsableOneAndMakesAnother) {
  EXPECT_EQ(RequestIdOf({{"X-Request-ID", "abc-1"}}), "abc-1");
  EXPECT_EQ(RequestIdOf({{"x-request-id", std::string(128, 'a')}}).size(), 128u);
  for (const std::string& bad : {std::string(129, 'a'), std::string("a b"), std::string(),
                                 std::string("\xc3\xa4"), std::string("a\tb")}) {
    const std::string made = RequestIdOf({{"x-request-id", bad}});
    EXPECT_NE(made, bad);
    EXPECT_EQ(made.size(), 36u);
  }
}

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

TEST(ApiErrors, AreOpenAiShaped) {
  EXPECT_EQ(
      ErrorBody({404, "no \"x\"", "model_not_found", 0}),
      R"({"error":{"message":"no \"x\"","type":"invalid_request_error","param":null,"code":"model_not_found"}})");
  EXPECT_EQ(FromRouting({Code::kUnavailable, ""}).status, 503);
  EXPECT_EQ(ErrorHeaders(FromRouting({Code::kUnavailable, ""})).Get("Retry-After"), "1");
  EXPECT_EQ(FromRouting({Code::kNotFound, ""}).status, 404);
  EXPECT_EQ(FromRouting({Code::kOutOfBounds, ""}).status, 429);
  EXPECT_EQ(FromRouting({Code::kInvalidArgument, ""}).status, 400);
}

}  // namespace
}  // namespace warmpath::gateway
