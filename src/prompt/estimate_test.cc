#include "prompt/estimate.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "prompt/image_size.h"

namespace warmpath::prompt {
namespace {

using Ids = std::vector<kv::TokenId>;

std::vector<Ids> All(Api api, std::string_view body, const EstimateOptions& options = {}) {
  auto prompts = EstimateTokens(api, body, options);
  EXPECT_TRUE(prompts) << body << ": " << prompts.error().message;
  return prompts ? *prompts : std::vector<Ids>{};
}

Ids One(Api api, std::string_view body, const EstimateOptions& options = {}) {
  auto prompts = All(api, body, options);
  EXPECT_EQ(prompts.size(), 1u) << body;
  return prompts.size() == 1 ? prompts[0] : Ids{};
}

bool StartsWith(const Ids& ids, const Ids& start) {
  return ids.size() >= start.size() && std::equal(start.begin(), start.end(), ids.begin());
}

// A user message with one picture.
std::string WithImage(std::string_view url) {
  return fmt::format(
      R"({{"messages":[{{"content":[{{"type":"image_url","image_url":{{"url":"{}"}}}}]}}]}})", url);
}

TEST(EstimateTokens, CountsFourBytesAToken) {
  EXPECT_EQ(One(Api::kCompletions, R"({"prompt":"12345678"})").size(), 2u);
  EXPECT_EQ(One(Api::kCompletions, R"({"prompt":"123456789"})").size(), 3u);
  EXPECT_EQ(One(Api::kCompletions, R"({"prompt":"\u00e9\u00e9"})").size(), 1u);
  EXPECT_EQ(One(Api::kCompletions, R"({"prompt":""})").size(), 0u);
}

TEST(EstimateTokens, EqualTextGivesEqualIdsAndOtherTextOthers) {
  const Ids whole = One(Api::kCompletions, R"({"prompt":"aaaabbbbaaaa"})");
  ASSERT_EQ(whole.size(), 3u);
  EXPECT_EQ(whole[0], whole[2]);
  EXPECT_NE(whole[0], whole[1]);
  EXPECT_TRUE(StartsWith(whole, One(Api::kCompletions, R"({"prompt":"aaaabbbb"})")));
  EXPECT_NE(One(Api::kCompletions, R"({"prompt":"aa"})"),
            One(Api::kCompletions, R"({"prompt":"aa\u0000\u0000"})"));
}

TEST(EstimateTokens, GivesOneListPerPrompt) {
  EXPECT_EQ(All(Api::kCompletions, R"({"prompt":["abcd","efgh"]})").size(), 2u);
  EXPECT_EQ(One(Api::kCompletions, R"({"prompt":[7,8,9]})"), (Ids{7, 8, 9}));
  EXPECT_EQ(All(Api::kEmbeddings, R"({"input":[[1,2],[3]]})"), (std::vector<Ids>{{1, 2}, {3}}));
  EXPECT_EQ(One(Api::kGenerate, R"({"token_ids":[4,5]})"), (Ids{4, 5}));
  EXPECT_EQ(One(Api::kCompletions, R"({"prompt":"abcd","prompt":"efgh"})"),
            One(Api::kCompletions, R"({"prompt":"efgh"})"));
  EXPECT_TRUE(All(Api::kCompletions, "{}").empty());
}

TEST(EstimateTokens, AConversationThatGrowsKeepsItsStart) {
  const Ids first =
      One(Api::kChatCompletions, R"({"messages":[{"role":"user","content":"what is it?"}]})");
  EXPECT_EQ(first.size(), 4u);  // "userwhat is it?"
  const Ids second = One(
      Api::kChatCompletions,
      R"({"messages":[{"role":"user","content":"what is it?"},{"role":"assistant","content":"a cat"}],)"
      R"("temperature":1})");
  EXPECT_TRUE(StartsWith(second, Ids(first.begin(), first.end() - 1)));
  EXPECT_GT(second.size(), first.size());
}

TEST(EstimateTokens, ToolsAndSystemTextComeFirstWhereverTheyStand) {
  const Ids after = One(
      Api::kMessages,
      R"({"messages":[{"role":"user","content":"abc"}],"system":"be kind","tools":[{"name":"t"}]})");
  const Ids before = One(
      Api::kMessages,
      R"({"tools":[{"name":"t"}],"system":"be kind","messages":[{"role":"user","content":"abc"}]})");
  EXPECT_EQ(after, before);
  EXPECT_TRUE(StartsWith(after, One(Api::kMessages, R"({"tools":[{"name":"t"}]})")));
}

TEST(EstimateTokens, ReadsEveryFormOfContent) {
  const Ids plain =
      One(Api::kChatCompletions, R"({"messages":[{"role":"user","content":"hello world"}]})");
  EXPECT_EQ(One(Api::kChatCompletions,
                R"({"messages":[{"role":"user","content":[{"type":"text","text":"hello "},
                    {"type":"text","text":"world"}]}]})"),
            plain);
  EXPECT_EQ(One(Api::kResponses,
                R"({"input":[{"type":"message","role":"user","content":[{"type":"input_text",
                    "text":"hello world"}]}]})"),
            plain);
  EXPECT_EQ(One(Api::kConversations, R"({"items":[{"role":"user","content":"hello world"}]})"),
            plain);
  EXPECT_EQ(One(Api::kResponses, R"({"input":"hello world"})"),
            One(Api::kCompletions, R"({"prompt":"hello world"})"));
  EXPECT_NE(One(Api::kChatCompletions,
                R"({"messages":[{"role":"assistant","tool_calls":[{"id":"a"}]}]})"),
            One(Api::kChatCompletions,
                R"({"messages":[{"role":"assistant","tool_calls":[{"id":"b"}]}]})"));
}

// The first bytes of files of these sizes.
constexpr const char* kPng800x600 = "iVBORw0KGgoAAAANSUhEUgAAAyAAAAJYCAYAAAA=";
constexpr const char* kGif320x200 = "R0lGODlhQAHIAA==";
// An APP0 segment before the frame.
constexpr const char* kJpeg1024x768 = "/9j/4AAQSkZJRgABAQAAAQABAAD/wAARCAMABAADAREAAhEBAxEB";

TEST(EstimateTokens, AnImageCountsByItsPixels) {
  const auto size = [](std::string_view url, const EstimateOptions& options = {}) {
    return One(Api::kChatCompletions, WithImage(url), options).size();
  };
  EXPECT_EQ(size("https://x/cat.png"), 225u);  // 640 * 360 / 1024
  EXPECT_EQ(size(std::string("data:image/png;base64,") + kPng800x600), 468u);
  EXPECT_EQ(size(std::string("data:image/gif;base64,") + kGif320x200), 62u);
  EXPECT_EQ(size(std::string("data:image/jpeg;base64,") + kJpeg1024x768), 768u);
  EXPECT_EQ(size("data:image/png;base64,AAAA"), 225u);
  EXPECT_EQ(size("x", {.image_static = true, .image_static_tokens = 7}), 7u);
  EXPECT_EQ(size("x", {.image_width = 10, .image_height = 10}), 1u);
  EXPECT_EQ(size("x", {.image_factor = 0}), 65536u);
  EXPECT_EQ(
      One(Api::kMessages,
          fmt::format(R"({{"messages":[{{"content":[{{"type":"image","source":{{"type":"base64",
                    "media_type":"image/png","data":"{}"}}}}]}}]}})",
                      kPng800x600))
          .size(),
      468u);
  EXPECT_EQ(One(Api::kResponses,
                R"({"input":[{"content":[{"type":"input_image","image_url":"https://x/y"}]}]})")
                .size(),
            225u);
  EXPECT_EQ(One(Api::kChatCompletions,
                R"({"messages":[{"content":[{"type":"video_url","video_url":{"url":"v"}}]}]})")
                .size(),
            4500u);
}

TEST(EstimateTokens, TellsImagesApart) {
  EXPECT_EQ(One(Api::kChatCompletions, WithImage("a")), One(Api::kChatCompletions, WithImage("a")));
  EXPECT_NE(One(Api::kChatCompletions, WithImage("a")), One(Api::kChatCompletions, WithImage("b")));
}

TEST(EstimateTokens, BoundsWhatShortLinksStandFor) {
  std::string body = R"({"messages":[{"content":[)";
  for (int i = 0; i < 2000; ++i) {
    body += R"({"type":"video_url","video_url":{"url":"v"}},)";
  }
  body += R"({"type":"text","text":"after it"}]}]})";
  const Ids ids = One(Api::kChatCompletions, body);
  EXPECT_EQ(ids.size(), (1u << 20) + 2);
  std::string many = R"({"prompt":[)";
  for (int i = 0; i < 4096; ++i) many += R"("",)";
  EXPECT_EQ(EstimateTokens(Api::kCompletions, many + R"(""]})").error().code, Code::kUnsupported);
}

TEST(EstimateTokens, RefusesWhatHasNoPrompt) {
  EXPECT_EQ(EstimateTokens(Api::kChatCompletions, "[]").error().code, Code::kInvalidArgument);
  EXPECT_EQ(EstimateTokens(Api::kChatCompletions, "{").error().code, Code::kInvalidArgument);
  EXPECT_EQ(EstimateTokens(Api::kOther, "{}").error().code, Code::kUnsupported);
  EXPECT_EQ(EstimateTokens(Api::kTokenize, R"({"prompt":"x"})").error().code, Code::kUnsupported);
}

TEST(ImageSize, SurvivesBrokenHeaders) {
  EXPECT_FALSE(SizeOfBase64Image(""));
  EXPECT_FALSE(SizeOfBase64Image("iVBORw0KGgo="));
  EXPECT_FALSE(SizeOfBase64Image("iVBORw0KGgoAAAANSUhEUgAAAAAAAAJYCAYAAAA="));  // width 0
  EXPECT_FALSE(SizeOfBase64Image("/9j/4AAA"));  // segment of 0 bytes
  EXPECT_FALSE(SizeOfBase64Image("/9j/////////////////////"));
  EXPECT_FALSE(SizeOfDataUrl("data:image/png;base64"));
  EXPECT_FALSE(SizeOfDataUrl("data:image/png,AAAA"));
  EXPECT_FALSE(SizeOfDataUrl("https://x/"));
}

}  // namespace
}  // namespace warmpath::prompt
