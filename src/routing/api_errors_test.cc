#include "routing/api_errors.h"

#include <gtest/gtest.h>

#include "routing/request_headers.h"

namespace warmpath::routing {
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
}  // namespace warmpath::routing
