#include "load/stream_reader.h"

#include <gtest/gtest.h>

namespace warmpath::load {
namespace {

constexpr std::string_view kStream =
    "data: {\"choices\":[{\"index\":0,\"text\":\"a\"}],\"usage\":null}\n\n"
    "data: {\"choices\":[{\"index\":0,\"text\":\"\"}]}\n\n"
    "data: {\"choices\":[{\"index\":0,\"text\":\"b\",\"finish_reason\":\"length\"}]}\r\n\r\n"
    ": comment\n\n"
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":192,\"completion_tokens\":50,"
    "\"prompt_tokens_details\":{\"cached_tokens\":128}}}\n\n"
    "data: [DONE]\n\n";

TEST(StreamReader, CountsTextAndReadsUsage) {
  StreamReader reader;
  EXPECT_EQ(reader.Feed(kStream), 2u);
  EXPECT_TRUE(reader.done());
  EXPECT_FALSE(reader.failed());
  ASSERT_TRUE(reader.usage());
  EXPECT_EQ(reader.usage()->prompt_tokens, 192u);
  EXPECT_EQ(reader.usage()->completion_tokens, 50u);
  EXPECT_EQ(reader.usage()->cached_tokens, 128u);
}

TEST(StreamReader, CutsMakeNoDifference) {
  for (size_t piece = 1; piece < 40; ++piece) {
    StreamReader reader;
    size_t texts = 0;
    for (size_t at = 0; at < kStream.size(); at += piece)
      texts += reader.Feed(kStream.substr(at, piece));
    EXPECT_EQ(texts, 2u);
    EXPECT_TRUE(reader.done());
    ASSERT_TRUE(reader.usage());
    EXPECT_EQ(reader.usage()->cached_tokens, 128u);
  }
}

TEST(StreamReader, AbsentOrNullDetailsAreZeroCached) {
  StreamReader reader;
  reader.Feed(
      "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"prompt_tokens_details\":null}}\n\n");
  ASSERT_TRUE(reader.usage());
  EXPECT_EQ(reader.usage()->cached_tokens, 0u);
}

TEST(StreamReader, ChatDeltasCount) {
  StreamReader reader;
  EXPECT_EQ(reader.Feed(
                "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"),
            0u);
  EXPECT_EQ(reader.Feed("data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n"), 1u);
  EXPECT_EQ(reader.Feed("data:{\"choices\":[{\"delta\":{\"reasoning_content\":\"x\"}}]}\n\n"), 1u);
}

TEST(StreamReader, ErrorEventsAndBrokenJsonFail) {
  StreamReader error;
  error.Feed("data: {\"error\":{\"message\":\"x\"}}\n\n");
  EXPECT_TRUE(error.failed());
  StreamReader broken;
  broken.Feed("data: {\"choices\n\n");
  EXPECT_TRUE(broken.failed());
}

}  // namespace
}  // namespace warmpath::load
