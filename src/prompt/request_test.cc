#include "prompt/request.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "codec/json.h"

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

TEST(ApiOfPathSuffix, GoesByTheLongestKnownEnd) {
  const std::pair<const char*, Api> kCases[] = {
      {"/v1/chat/completions", Api::kChatCompletions},
      {"/proxy/team-a/v1/chat/completions?api-version=1", Api::kChatCompletions},
      {"chat/completions", Api::kChatCompletions},
      {"/v1/chat/completions/render", Api::kChatCompletions},
      {"/v1/completions", Api::kCompletions},
      {"/v1/completions/render#x", Api::kCompletions},
      {"/x/completions", Api::kCompletions},
      {"/v1/embeddings", Api::kEmbeddings},
      {"/v1/responses?stream=1", Api::kResponses},
      {"/v1/conversations", Api::kConversations},
      {"/v1/images/generations", Api::kImages},
      {"/v1/messages", Api::kMessages},
      {"/anthropic/v1/messages/count_tokens?beta=true", Api::kMessages},
      {"/inference/v1/generate", Api::kGenerate},
      {"/pool/inference/v1/generate", Api::kGenerate},
      {"/tokenize", Api::kTokenize},
      {"/detokenize", Api::kDetokenize},
      {"/v1/chat/completions/", Api::kOther},
      {"/v1/mycompletions", Api::kOther},
      {"/generate", Api::kOther},
      {"/v1/models?next=/v1/completions", Api::kOther},
      {"/", Api::kOther},
      {"", Api::kOther},
  };
  for (const auto& [path, api] : kCases) EXPECT_EQ(ApiOfPathSuffix(path), api) << path;
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

TEST(ReadRequest, OutputLimitIsWhereTheApiHasIt) {
  const char* body =
      R"({"max_output_tokens":4,"max_tokens":5,"sampling_params":{"max_tokens":6,"n":1}})";
  EXPECT_EQ(ReadRequest(Api::kResponses, body)->max_tokens, 4u);
  EXPECT_EQ(ReadRequest(Api::kCompletions, body)->max_tokens, 5u);
  EXPECT_EQ(ReadRequest(Api::kGenerate, body)->max_tokens, 6u);
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

TEST(ReadRequest, SaysWhereTheModelStands) {
  const std::pair<const char*, const char*> kCases[] = {
      {R"({"model":"a/b","n":1})", R"("a/b")"},
      {R"({ "model" :	"a\"b" , "n":1})", R"("a\"b")"},
      {R"({"n":1,"mod\u0065l":"x" })", R"("x")"},
      {R"({"model":"a","x":{"model":"no"},"model":"b"})", R"("b")"},
      {R"({"model":null})", "null"},
      {R"({"model": 17.50 })", "17.50"},
      {R"({"model":{"a":[1]} ,"b":2})", R"({"a":[1]})"},
      {R"({"x":{"model":"no"}})", ""},
      {R"({"model":"\ud800"})", R"("\ud800")"},
  };
  for (const auto& [body, value] : kCases) {
    const auto view = Read(body);
    EXPECT_EQ(std::string_view(body).substr(view.model_offset, view.model_length), value) << body;
  }
}

TEST(ReplaceModel, KeepsEveryOtherByte) {
  const std::pair<const char*, const char*> kCases[] = {
      {R"({"model":"old","seed":9007199254740993,"b":1,"a":"<&>\u00e9"})",
       R"({"model":"n\"w","seed":9007199254740993,"b":1,"a":"<&>\u00e9"})"},
      {R"( {"a" : 1.50e2 , "model" : null } )", R"( {"a" : 1.50e2 , "model" : "n\"w" } )"},
      {R"({"model":"a","model":"b"})", R"({"model":"a","model":"n\"w"})"},
      {"{ }", R"({"model":"n\"w" })"},
      {"\n{ \"a\":1}", "\n{\"model\":\"n\\\"w\", \"a\":1}"},
  };
  for (const auto& [body, wanted] : kCases) {
    EXPECT_EQ(ReplaceModel(body, Read(body), "n\"w"), wanted) << body;
  }
}

// Bodies of random members, spacing and order, with and without models.
TEST(ReplaceModel, GivesTheNewModelAndChangesNothingElse) {
  std::mt19937_64 random(7);
  const std::vector<std::string> kMembers = {
      R"("seed":9223372036854775807)",
      R"("big":18446744073709551616)",
      R"("t":0.10000000000000000555)",
      R"("messages":[{"role":"user","content":"{\"model\":\"x\"} \u2028<b>"}])",
      R"("model" :  "old")",
      R"("model":"a\\\"")",
      R"("model":"\u006f")",
      R"("model": null)",
      R"("model":[1,{"model":2}])",
      R"("z":{})",
      R"("a":[ ])",
      "\"\\u006dodel\":\"escaped\"",
  };
  const std::vector<std::string> kNames = {"m", "org/name:1", "q\"uote\\", "tab\t\x01", "ünï", ""};
  const char* kSpaces[] = {"", " ", "\n", "\t \r\n"};
  const auto draw = [&](size_t n) { return static_cast<size_t>(random() % n); };
  for (int round = 0; round < 3000; ++round) {
    std::string body = kSpaces[draw(4)] + std::string("{") + kSpaces[draw(4)];
    const size_t count = draw(6);
    for (size_t i = 0; i < count; ++i) {
      body += fmt::format("{}{}{}{}", i == 0 ? "" : ",", kSpaces[draw(4)],
                          kMembers[draw(kMembers.size())], kSpaces[draw(4)]);
    }
    body += std::string("}") + kSpaces[draw(4)];
    const std::string& name = kNames[draw(kNames.size())];
    const auto view = Read(body);
    const std::string out = ReplaceModel(body, view, name);
    ASSERT_TRUE(codec::ParseJson(out)) << out;
    const auto again = Read(out);
    ASSERT_EQ(again.model, name) << body;
    const std::string_view before = std::string_view(body).substr(0, view.model_offset);
    const std::string_view after =
        std::string_view(body).substr(view.model_offset + view.model_length);
    if (view.model_length > 0) {
      ASSERT_TRUE(std::string_view(out).starts_with(before)) << out;
      ASSERT_TRUE(std::string_view(out).ends_with(after)) << out;
      ASSERT_EQ(out.size(), before.size() + again.model_length + after.size());
    } else {
      // Taking the new member and its comma out again gives the body.
      const size_t brace = out.find('{') + 1;
      size_t end = again.model_offset + again.model_length;
      if (count > 0) ++end;
      ASSERT_EQ(out.substr(0, brace) + out.substr(end), body);
    }
  }
}

TEST(CheckRequired, NamesTheFieldThatIsMissing) {
  const struct {
    Api api;
    const char* body;
    const char* message;
  } kCases[] = {
      {Api::kChatCompletions, "{}",
       "invalid chat completions request: must have valid messages field"},
      {Api::kChatCompletions, R"({"messages":[ ]})",
       "invalid chat completions request: must have valid messages field"},
      {Api::kChatCompletions, R"({"messages":"x"})",
       "invalid chat completions request: must have valid messages field"},
      {Api::kChatCompletions, R"({"messages":[{}]})", ""},
      {Api::kCompletions, R"({"prompt":null})",
       "invalid completions request: must have prompt field"},
      {Api::kCompletions, R"({"prompt":"x","prompt":[]})",
       "invalid completions request: must have prompt field"},
      {Api::kCompletions, R"({"prompt":[[1]]})", ""},
      {Api::kCompletions, R"({"prompt":"x"})", ""},
      {Api::kEmbeddings, "{}", "invalid embeddings request: must have input field"},
      {Api::kEmbeddings, R"({"input":["a"]})", ""},
      {Api::kResponses, "{}", "invalid responses request: must have input field"},
      {Api::kResponses, R"({"input":"a"})", ""},
      {Api::kConversations, R"({"items":{}})",
       "invalid conversations request: must have items field"},
      {Api::kConversations, R"({"items":[{"type":"message"}]})", ""},
      {Api::kImages, "{}", "invalid images generations request: must have prompt field"},
      {Api::kImages, R"({"prompt":"a cat"})", ""},
      {Api::kMessages, "{}", ""},
      {Api::kGenerate, "{}", ""},
      {Api::kOther, "{}", ""},
  };
  for (const auto& c : kCases) {
    const auto status = CheckRequired(c.api, c.body);
    EXPECT_EQ(status ? "" : status.error().message, c.message) << c.body;
    if (!status) {
      EXPECT_EQ(status.error().code, Code::kInvalidArgument);
    }
  }
  EXPECT_EQ(CheckRequired(Api::kChatCompletions, "[").error().code, Code::kInvalidArgument);
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
