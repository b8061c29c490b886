#include "codec/sse.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace warmpath::codec {
namespace {

std::vector<std::string> Read(std::string_view stream, size_t chunk) {
  SseParser parser;
  std::vector<std::string> events;
  for (size_t at = 0; at < stream.size(); at += chunk) {
    EXPECT_TRUE(parser.Feed(stream.substr(at, chunk), [&](const SseEvent& e) {
      events.push_back(std::string(e.event) + "|" + std::string(e.data) + "|" + std::string(e.id));
    }));
  }
  return events;
}

TEST(Sse, GivesTheSameEventsForEveryChunking) {
  const std::string stream =
      "\xEF\xBB\xBF"
      "data: {\"a\":1}\n\nevent: ping\ndata:x\r\ndata: y\r\n\r\n: comment\n\nid: 7\ndata\n\nretry: "
      "5\rdata: z\r\rdata: [DONE]\n\ndata: cut";
  const std::vector<std::string> want = {"|{\"a\":1}|", "ping|x\ny|", "||7", "|z|", "|[DONE]|"};
  for (size_t chunk = 1; chunk <= stream.size(); ++chunk)
    EXPECT_EQ(Read(stream, chunk), want) << chunk;
}

TEST(Sse, RefusesAnEventOverTheLimitAndStaysRefused) {
  SseParser parser(16);
  const auto ignore = [](const SseEvent&) {};
  EXPECT_TRUE(parser.Feed("data: 12345\n", ignore));
  EXPECT_FALSE(parser.idle());
  EXPECT_EQ(parser.Feed("data: 1234567890", ignore).error().code, Code::kOutOfBounds);
  EXPECT_FALSE(parser.Feed("\n\n", ignore));
}

TEST(Sse, BoundsTheSumOfManySmallLines) {
  SseParser parser(64);
  const auto ignore = [](const SseEvent&) {};
  Status status;
  for (int i = 0; i < 100 && status; ++i) status = parser.Feed("data:\n", ignore);
  EXPECT_FALSE(status);
}

TEST(Sse, IsIdleBetweenEvents) {
  SseParser parser;
  const auto ignore = [](const SseEvent&) {};
  EXPECT_TRUE(parser.Feed("data: a\n\n", ignore));
  EXPECT_TRUE(parser.idle());
  EXPECT_TRUE(parser.Feed("da", ignore));
  EXPECT_FALSE(parser.idle());
}

}  // namespace
}  // namespace warmpath::codec
