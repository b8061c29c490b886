#include "prompt/request.h"

#include <gtest/gtest.h>

namespace warmpath::prompt {
namespace {

RequestView Read(std::string_view body) {
  auto view = ReadRequest(Api::kChatCompletions, body);
  EXPECT_TRUE(view.has_value()) << body << ": " << view.error().message;
  return view.value_or(RequestView{});
}

TEST(ApiOfPath, GoesByPathAlone) {
  EXPECT_EQ(ApiOfPath("/v1/chat/completions"), Api::kChatCompletions);
  EXPECT_EQ(ApiOfPath("/v1/completions?x=1"), Api::kCompletions);
  EXPECT_EQ(ApiOfPath("/v1/responses"), Api::kResponses);
  EXPECT_EQ(ApiOfPath("/v1/messages"), Api::kMessages);
  EXPECT_EQ(ApiOfPath("/v1/embeddings"), Api::kEmbeddings);
  EXPECT_EQ(ApiOfPath("/tokenize"), Api::kTokenize);
  EXPECT_EQ(ApiOfPath("/detokenize"), Api::kDetokenize);
  EXPECT_EQ(ApiOfPath("/v1/chat/completions/"), Api::kOther);
  EXPECT_EQ(ApiOfPath(""), Api::kOther);
}

TEST(ReadRequest, ReadsWhatRoutingNeeds) {
  const auto view =
      Read(R"({"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,)"
           R"("stream_options":{"include_usage":true},"cache_salt":"s","max_tokens":5,"n":3})");
  EXPECT_EQ(view.api, Api::kChatCompletions);
  EXPECT_EQ(view.model, "m");
  EXPECT_TRUE(view.stream);
  EXPECT_TRUE(view.include_usage);
  EXPECT_EQ(view.cache_salt, "s");
  EXPECT_EQ(view.max_tokens, 5u);
  EXPECT_EQ(view.n, 3u);
}

TEST(ReadRequest, NullAndAbsentModelMeanTheDefaultModel) {
  EXPECT_EQ(Read("{}").model, "");
  EXPECT_EQ(Read(R"({"model":null})").model, "");
  EXPECT_EQ(Read("{}").max_tokens, std::nullopt);
}

TEST(ReadRequest, MaxCompletionTokensGoesBeforeMaxTokens) {
  EXPECT_EQ(Read(R"({"max_completion_tokens":7,"max_tokens":5})").max_tokens, 7u);
  EXPECT_EQ(Read(R"({"max_tokens":5,"max_completion_tokens":null})").max_tokens, 5u);
}

TEST(ReadRequest, TheLastOfTwoEqualKeysWins) {
  const auto view = Read(
      R"({"model":"a","stream_options":{"include_usage":true},"stream_options":{},"model":"b","n":2,"n":null})");
  EXPECT_EQ(view.model, "b");
  EXPECT_FALSE(view.include_usage);
  EXPECT_EQ(view.n, 1u);
}

TEST(ReadRequest, WrongTypesAreLeftToTheEngine) {
  const auto view = Read(
      R"({"model":3,"stream":"yes","stream_options":[],"cache_salt":{},"max_tokens":-1,"n":1e30})");
  EXPECT_EQ(view.model, "");
  EXPECT_FALSE(view.stream);
  EXPECT_EQ(view.cache_salt, "");
  EXPECT_EQ(view.max_tokens, std::nullopt);
  EXPECT_EQ(view.n, 1u);
}

TEST(ReadRequest, LeavesTheSizeOfABodyToTheServersLimit) {
  const std::string body =
      R"({"prompt":")" + std::string(size_t{65} << 20, 'x') + R"(","model":"m"})";
  const auto view = ReadRequest(Api::kCompletions, body);
  ASSERT_TRUE(view) << view.error().message;
  EXPECT_EQ(view->model, "m");
}

TEST(ReadRequest, RefusesWhatIsNoBoundedJsonObject) {
  std::string deep = R"({"a":)" + std::string(65, '[') + std::string(65, ']') + "}";
  for (const std::string& body :
       {std::string(""), std::string("[]"), std::string("{"), std::string("{\"model\":\"a\"}x"),
        std::string("{\"a\":\xFF}"), deep}) {
    const auto view = ReadRequest(Api::kCompletions, body);
    ASSERT_FALSE(view.has_value()) << body;
    EXPECT_EQ(view.error().code, Code::kInvalidArgument) << body;
  }
}

}  // namespace
}  // namespace warmpath::prompt
