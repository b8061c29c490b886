#include "net/grpc_framing.h"

#include <gtest/gtest.h>

#include <vector>

namespace warmpath::net {
namespace {

using Event = GrpcMessageReader::Event;

TEST(GrpcFramingTest, MessagesComeOutAtEverySplit) {
  const std::vector<std::string> messages = {"", "abc", std::string(300, 'x'), "", "end"};
  std::string bytes;
  for (const auto& message : messages) {
    AppendGrpcPrefix(bytes, message.size());
    bytes += message;
  }
  for (size_t step = 1; step <= bytes.size(); ++step) {
    GrpcMessageReader reader;
    std::vector<std::string> got;
    for (size_t at = 0; at < bytes.size(); at += step) {
      std::string_view input = std::string_view(bytes).substr(at, step);
      while (reader.Next(input, 300) == Event::kMessage) got.emplace_back(reader.message());
      EXPECT_TRUE(input.empty());
    }
    EXPECT_EQ(got, messages) << step;
    EXPECT_FALSE(reader.mid_message());
    EXPECT_EQ(reader.buffered(), 0u);
  }
}

TEST(GrpcFramingTest, AWholeMessageIsAViewOfTheInput) {
  const std::string bytes("\0\0\0\0\3abc", 8);
  std::string_view input = bytes;
  GrpcMessageReader reader;
  ASSERT_EQ(reader.Next(input, 10), Event::kMessage);
  EXPECT_EQ(reader.message().data(), bytes.data() + 5);
}

TEST(GrpcFramingTest, CompressedAndLargeOnesAreKnownFromThePrefix) {
  GrpcMessageReader compressed;
  std::string_view input("\1", 1);
  EXPECT_EQ(compressed.Next(input, 10), Event::kCompressed);
  GrpcMessageReader large;
  input = std::string_view("\0\xff\xff\xff\xff", 5);
  EXPECT_EQ(large.Next(input, 10), Event::kTooLarge);
  EXPECT_EQ(large.announced(), UINT32_MAX);
}

TEST(GrpcFramingTest, TimeoutsOfAllUnits) {
  EXPECT_EQ(ParseGrpcTimeout("2H"), std::chrono::hours(2));
  EXPECT_EQ(ParseGrpcTimeout("3M"), std::chrono::minutes(3));
  EXPECT_EQ(ParseGrpcTimeout("4S"), std::chrono::seconds(4));
  EXPECT_EQ(ParseGrpcTimeout("5m"), std::chrono::milliseconds(5));
  EXPECT_EQ(ParseGrpcTimeout("6u"), std::chrono::microseconds(6));
  EXPECT_EQ(ParseGrpcTimeout("7n"), std::chrono::nanoseconds(7));
  EXPECT_EQ(ParseGrpcTimeout("99999999H"), std::chrono::hours(24 * 365));
  for (const char* bad : {"", "S", "1", "-1S", "1x", "123456789S", "1.5S", " 1S"}) {
    EXPECT_FALSE(ParseGrpcTimeout(bad)) << bad;
  }
}

TEST(GrpcFramingTest, OnlyPrintableAsciiIsWrittenPlainly) {
  EXPECT_EQ(EncodeGrpcMessage("plain ~"), "plain ~");
  EXPECT_EQ(EncodeGrpcMessage("50%\n\x7f\xc3\xb6"), "50%25%0A%7F%C3%B6");
}

TEST(GrpcFramingTest, ContentTypes) {
  EXPECT_TRUE(IsGrpcContentType("application/grpc"));
  EXPECT_TRUE(IsGrpcContentType("application/grpc+proto"));
  EXPECT_TRUE(IsGrpcContentType("application/grpc;charset=utf-8"));
  EXPECT_FALSE(IsGrpcContentType("application/grpc-web"));
  EXPECT_FALSE(IsGrpcContentType("text/plain"));
}

}  // namespace
}  // namespace warmpath::net
