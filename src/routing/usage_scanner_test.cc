#include "routing/usage_scanner.h"

#include <gtest/gtest.h>

namespace warmpath::routing {
namespace {

using Kind = UsageScanner::Kind;

std::optional<ResponseUsage> Scan(Kind kind, std::string_view text,
                                  size_t cut = std::string_view::npos) {
  UsageScanner scanner(kind);
  scanner.Feed(text.substr(0, cut));
  if (cut < text.size()) scanner.Feed(text.substr(cut));
  return scanner.Finish();
}

TEST(UsageScanner, ReadsAJsonBody) {
  const auto usage = Scan(
      Kind::kJson,
      R"({"choices":[],"usage":{"prompt_tokens":192,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":128}}})");
  ASSERT_TRUE(usage);
  EXPECT_EQ(usage->prompt_tokens, 192u);
  EXPECT_EQ(usage->cached_tokens, 128u);
  EXPECT_EQ(usage->output_tokens, 7u);
}

TEST(UsageScanner, DetailsMayBeMissing) {
  for (const char* details : {"", R"(,"prompt_tokens_details":null)",
                              R"(,"prompt_tokens_details":{"cached_tokens":null})"}) {
    const auto usage =
        Scan(Kind::kJson, std::string(R"({"usage":{"prompt_tokens":3)") + details + "}}");
    ASSERT_TRUE(usage) << details;
    EXPECT_EQ(usage->prompt_tokens, 3u);
    EXPECT_FALSE(usage->cached_tokens);
  }
}

// What no glance can tell is read whole: both find the same.
TEST(UsageScanner, ReadsUsageWhereverItStandsAndHoweverItIsWritten) {
  const std::string usage = R"("usage":{"prompt_tokens":5,"completion_tokens":2})";
  for (const std::string& json :
       {"{" + usage + "}", " {" + usage + "}\n ", "{" + usage + R"(,"service_tier":null})",
        "{" + usage + R"(,"a":[{"b":"}\"]"},["\\"]],"c":"x"})",
        R"({"a":{"usage":{"prompt_tokens":9}},)" + usage + "}",
        "{" + usage + R"(,"a":{"usage":{"prompt_tokens":9}}})",
        "{" + usage + R"(,"a":"\"usage\":{\"prompt_tokens\":9}"})",
        "{" + usage + R"(,"a\"usage":{"prompt_tokens":9}})",
        R"({"usage":{"prompt_tokens":9},)" + usage + "}", R"({"response":{)" + usage + "}}",
        std::string(R"({"usage" : { "prompt_tokens" : 5 , "completion_tokens" : 2.0 }})"),
        std::string(R"({"usage":{"prompt_tokens":5,"prompt_tokens":null,"output_tokens":2}})"),
        std::string(R"({"usage":{"prompt_tokens":5,"x":{"y":[1]},"output_tokens":2}})"),
        std::string(R"({"usage":{"prompt_tokens":5,"x":"y","output_tokens":2}})")}) {
    const auto found = ReadUsage(json);
    ASSERT_TRUE(found) << json;
    EXPECT_EQ(found->prompt_tokens, 5u) << json;
    EXPECT_EQ(found->output_tokens, 2u) << json;
    EXPECT_FALSE(found->cached_tokens) << json;
  }
  for (const char* json :
       {R"({"usage":{}})", R"({"usage":{"prompt_tokens":-1}})",
        R"([{"usage":{"prompt_tokens":1}}])", R"({"usage":{"prompt_tokens":1}}})",
        R"({"usage":{"prompt_tokens":01}})", R"({"usage":{"prompt_tokens":1)",
        R"({"usage":{"prompt_tokens":1},"a":")", R"({"usage":)",
        R"({"usage":{"prompt_tokens":99999999999999999999}})", R"("usage":{"prompt_tokens":1}})",
        R"({"a":{"usage":{"prompt_tokens":1}}})"}) {
    EXPECT_FALSE(ReadUsage(json)) << json;
  }
}

TEST(UsageScanner, TheLastBytesNeedNotBeFed) {
  const std::string body = R"({"choices":[],"usage":{"prompt_tokens":192}})";
  for (const Kind kind : {Kind::kJson, Kind::kEvents}) {
    const std::string text = kind == Kind::kJson ? body : "data: " + body + "\n\n";
    for (size_t cut = 0; cut <= text.size(); ++cut) {
      UsageScanner scanner(kind);
      scanner.Feed(text.substr(0, cut));
      const auto usage = scanner.Finish(text.substr(cut));
      ASSERT_TRUE(usage) << cut;
      EXPECT_EQ(usage->prompt_tokens, 192u);
    }
  }
}

TEST(UsageScanner, IsNotTakenInByContent) {
  EXPECT_FALSE(Scan(Kind::kJson, R"({"choices":[{"text":"\"usage\":{\"prompt_tokens\":1}"}]})"));
  EXPECT_FALSE(Scan(Kind::kJson, R"({"usage":null})"));
  EXPECT_FALSE(Scan(Kind::kJson, R"({"usage":{"prompt_tokens":-1}})"));
  EXPECT_FALSE(Scan(Kind::kJson, R"({"usage":{"prompt_tokens":1})"));
  EXPECT_FALSE(Scan(Kind::kNone, R"({"usage":{"prompt_tokens":1}})"));
}

TEST(UsageScanner, ReadsTheLastUsageOfAStreamHoweverItIsCut) {
  for (const std::string end : {"\n\n", "\r\n\r\n"}) {
    const std::string stream =
        R"(data: {"choices":[{"delta":{"content":"a"}}],"usage":null})" + end +
        R"(data: {"choices":[],"usage":{"prompt_tokens":1}})" + end +
        R"(data: {"choices":[{"delta":{"content":"\"usage\":{"}}],"usage":null})" + end +
        R"(data: {"choices":[],"usage":{"prompt_tokens":64,"prompt_tokens_details":{"cached_tokens":48}}})" +
        end + "data: [DONE]" + end;
    for (size_t cut = 0; cut <= stream.size(); ++cut) {
      const auto usage = Scan(Kind::kEvents, stream, cut);
      ASSERT_TRUE(usage) << cut;
      EXPECT_EQ(usage->prompt_tokens, 64u);
      EXPECT_EQ(usage->cached_tokens, 48u);
    }
    UsageScanner by_byte(Kind::kEvents);
    for (const char c : stream) by_byte.Feed({&c, 1});
    EXPECT_EQ(by_byte.Finish()->prompt_tokens, 64u);
  }
}

TEST(UsageScanner, ReadsResponsesEvents) {
  const auto usage =
      Scan(Kind::kEvents,
           "event: response.completed\ndata: {\"response\":{\"usage\":{\"input_tokens\":7,"
           "\"input_tokens_details\":{\"cached_tokens\":4}}}}\n\n");
  ASSERT_TRUE(usage);
  EXPECT_EQ(usage->prompt_tokens, 7u);
  EXPECT_EQ(usage->cached_tokens, 4u);
}

TEST(UsageScanner, HugeEventsPassAndTheNextIsReadAgain) {
  UsageScanner scanner(Kind::kEvents);
  scanner.Feed("data: ");
  for (int i = 0; i < 100; ++i) scanner.Feed(std::string(8 << 10, 'x'));
  scanner.Feed("\n");
  scanner.Feed("\ndata: {\"usage\":{\"prompt_tokens\":5}}\n\n");
  const auto usage = scanner.Finish();
  ASSERT_TRUE(usage);
  EXPECT_EQ(usage->prompt_tokens, 5u);
}

TEST(UsageScanner, KnowsWhatItCanRead) {
  EXPECT_EQ(UsageScanner::KindOf("text/event-stream; charset=utf-8", false), Kind::kEvents);
  EXPECT_EQ(UsageScanner::KindOf("application/json", false), Kind::kJson);
  EXPECT_EQ(UsageScanner::KindOf("application/json", true), Kind::kNone);
  EXPECT_EQ(UsageScanner::KindOf("", false), Kind::kNone);
}

}  // namespace
}  // namespace warmpath::routing
