// Property: whatever has arrived of a body, what is made of it tells a beginning of what the whole
// body will tell, and learning it changes no token of any body.
#include "prompt/begun_body.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>

#include "kv/keys.h"
#include "prompt/encoder.h"
#include "prompt/test_texts.h"
#include "prompt/test_tokenizers.h"

namespace warmpath::prompt {
namespace {

constexpr Api kChat = Api::kChatCompletions;
constexpr Api kText = Api::kCompletions;

std::vector<std::string_view> TextsOf(const PlainBody& body) {
  std::vector<std::string_view> texts;
  for (const PlainBody::Part& part : body.parts) {
    if (part.is_text) texts.push_back(part.text.bytes);
  }
  return texts;
}

// How many of the cuts told something.
size_t CutEverywhere(Api api, const std::string& body) {
  PlainBody whole, begun;
  EXPECT_TRUE(ReadPlainBody(api, body, whole)) << body;
  const auto texts = TextsOf(whole);
  size_t told = 0;
  for (size_t size = 0; size <= body.size(); ++size) {
    const std::string completed = CompleteBody(api, std::string_view(body).substr(0, size));
    if (completed.empty()) continue;
    ++told;
    if (!ReadPlainBody(api, completed, begun)) {
      ADD_FAILURE() << body.substr(0, size) << "\nbecame\n" << completed;
      return told;
    }
    const auto read = TextsOf(begun);
    EXPECT_LE(read.size(), texts.size()) << completed;
    for (size_t i = 0; i < std::min(read.size(), texts.size()); ++i) {
      const bool last = i + 1 == read.size();
      EXPECT_TRUE(last ? texts[i].starts_with(read[i]) : texts[i] == read[i]) << completed;
      std::string text;
      EXPECT_TRUE(AppendUnescaped(read[i], text)) << completed;
    }
  }
  return told;
}

const std::vector<std::string> kChats = {
    R"({"model":"m","messages":[{"role":"system","content":"You help."},{"role":"user","content":"Hi"}],"stream":true})",
    R"( { "messages" : [ { "content" : "text first", "role" : "user" } , { "content":"b","role":"assistant"}] , "n" : 12 } )",
    R"({"messages":[{"role":"user","content":[{"type":"text","text":"one"},{"type":"text","text":"two \" and"}]},{"role":"assistant","content":"x"}]})",
    R"({"messages":[{"role":"user","content":[{"text":"text first","type":"text"},{"type":"image_url","image_url":{"url":"data:x"}}]}]})",
    R"({"messages":[{"role":"user","content":"\\\\\\\"\\n \u00e9\uD83D\ude42 \ud83d\uDE42\\u12 \/\b\f\n\r\t end"}]})",
    R"({"messages":[{"role":"user","content":"größer 日本語 🙂👩‍👩‍👧 é"}]})",
    R"({"tools":[{"type":"function","function":{"name":"f","parameters":{"required":["a","b"],"x":-1.5e3}}}],"messages":[{"role":"user","content":"call"},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"done"}]})",
    R"({"messages":[{"role":"user","content":"a"}],"x":[{"content":"not a message"}],"content":"nor this","y":{"messages":[{"content":"z"}]}})",
    R"({"x":{"messages":[{"content":"z"}]},"messages":[{"role":"user","name":"n","content":""},{},{"content":[{},[],{"type":"text","text":""}]}]})",
};

TEST(BegunBody, OfABodyCutAnywhereTheTextsAreABeginning) {
  for (const std::string& body : kChats) {
    EXPECT_GT(CutEverywhere(kChat, body), 3u) << body;
  }
  EXPECT_GT(
      CutEverywhere(kText, R"({"model":"m","prompt":"a \u00e9\ud83d\ude42 b\\","stream":true})"),
      30u);
  EXPECT_GT(
      CutEverywhere(kText, R"({"add_special_tokens":false,"logit_bias":{"1":-100},"prompt":"ab"})"),
      3u);
  size_t recorded = 0;
  for (const auto& row : TestRows("golden/chat_render_vllm.jsonl")) {
    PlainBody plain;
    const std::string body = Text(row, "request_body");
    if (body.size() > 3000 || !ReadPlainBody(kChat, body, plain)) continue;
    CutEverywhere(kChat, body);
    if (++recorded == 150 || testing::Test::HasFailure()) break;
  }
  EXPECT_GT(recorded, 50u);
}

TEST(BegunBody, EndsTextsBehindWholeCharactersAndLeavesOutWhatIsNotComplete) {
  const auto message = [](const std::string& text) {
    return R"({"messages":[{"role":"user","content":")" + text + R"("}]})";
  };
  const auto begun = [](const std::string& text) {
    return CompleteBody(kChat, R"({"messages":[{"role":"user","content":")" + text);
  };
  EXPECT_EQ(begun("abc"), message("abc"));
  EXPECT_EQ(begun("abc\\"), message("abc"));
  EXPECT_EQ(begun("abc\\\\"), message("abc\\\\"));
  EXPECT_EQ(begun("abc\\\\\\"), message("abc\\\\"));
  EXPECT_EQ(begun("abc\\u00e"), message("abc"));
  EXPECT_EQ(begun("abc\\u00e9"), message("abc\\u00e9"));
  EXPECT_EQ(begun("abc\\ud83d"), message("abc"));
  EXPECT_EQ(begun("abc\\ud83d\\ude4"), message("abc"));
  EXPECT_EQ(begun("abc\\ud83d\\ude42"), message("abc\\ud83d\\ude42"));
  EXPECT_EQ(begun("\\ud83d\\ude42\\ud83d\\u"), message("\\ud83d\\ude42"));
  EXPECT_EQ(begun("abc\\\\ud83d"), message("abc\\\\ud83d"));
  EXPECT_EQ(begun("abc\xF0\x9F\x99"), message("abc"));
  EXPECT_EQ(begun("abc\xF0\x9F\x99\x82"), message("abc\xF0\x9F\x99\x82"));
  EXPECT_EQ(begun("abc\xC3"), message("abc"));
  EXPECT_EQ(begun(""), "");
  EXPECT_EQ(CompleteBody(kChat, message("a").substr(0, message("a").size() - 2)), message("a"));
  EXPECT_EQ(CompleteBody(kChat, R"({"messages":[{"content":"a","role":"ass)"),
            R"({"messages":[{"content":"a","role":"user"}]})");
  EXPECT_EQ(CompleteBody(kChat, R"({"messages":[{"role":"user","content":"a"},{"role":"user","na)"),
            message("a"));
  EXPECT_EQ(CompleteBody(kChat, R"({"messages":[[{"content":"a"}],{"content":"b)"),
            R"({"messages":[[{"content":"a"}],{"content":"b","role":"user"}]})");
  EXPECT_EQ(CompleteBody(kText, R"({"n":1,"prompt":"a b","max_tokens":12)"),
            R"({"n":1,"prompt":"a b"})");
}

TEST(BegunBody, TellsNothingOfWhatHoldsNoText) {
  for (const std::string_view begun :
       {"", "[", "[\"prompt\"", "x", "{", R"({"model":"m)",
        R"({"model":"m","messages":[{"role":"us)", R"({"prompt":[1,2,3)", R"({"a":[[[[)"}) {
    EXPECT_EQ(CompleteBody(kChat, begun), "") << begun;
    EXPECT_EQ(CompleteBody(kText, begun), "") << begun;
  }
  EXPECT_EQ(CompleteBody(kChat, R"({"prompt":"a)"), "");
  EXPECT_EQ(CompleteBody(kText, R"({"messages":[{"content":"a)"), "");
  EXPECT_EQ(CompleteBody(Api::kEmbeddings, R"({"input":"a)"), "");
  // Deep nesting ends the walk; what came before is kept.
  const std::string deep = R"({"prompt":"a","x":)" + std::string(100'000, '[');
  EXPECT_EQ(CompleteBody(kText, deep), R"({"prompt":"a"})");
  EXPECT_NE(CompleteBody(kText, R"({"prompt":")" + std::string(100'000, '\\')), "");
}

Encoder MakeEncoder(const std::string& name, size_t cache_bytes) {
  return Encoder(TestTokenizer(name),
                 {.cache_bytes = cache_bytes, .now = [] { return int64_t{1795348800}; }});
}

size_t LearnBegun(const Encoder& encoder, Api api, std::string_view begun) {
  PlainBody plain;
  const std::string completed = CompleteBody(api, begun);
  return ReadPlainBody(api, completed, plain) ? encoder.Learn(api, plain) : 0;
}

std::string Prose(std::mt19937& random, size_t bytes) {
  std::string text;
  while (text.size() < bytes) {
    text += random() % 12 == 0 ? kTextPieces[random() % kTextPieces.size()] : "word";
    text += random() % 3 == 0 ? " and " : " the ";
  }
  return text;
}

class Learning : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(BegunBody, Learning, testing::ValuesIn(kTokenizerNames),
                         [](const auto& info) { return info.param; });

TEST_P(Learning, ChangesNoTokenOfTheWholeBody) {
  std::mt19937 random(7);
  const Encoder oracle = MakeEncoder(GetParam(), 0);
  size_t learned = 0;
  for (int round = 0; round < 30; ++round) {
    const Encoder encoder = MakeEncoder(GetParam(), 8 << 20);
    codec::JsonArray messages;
    const size_t count = 1 + random() % 3;
    for (size_t i = 0; i < count; ++i) {
      codec::JsonObject message;
      message["role"] = i % 2 == 0 ? "user" : "assistant";
      message["content"] = Prose(random, 10 + random() % 12'000);
      messages.push_back(std::move(message));
    }
    codec::JsonObject body;
    const bool chat = GetParam() != "gptoss" && round % 3 != 0;
    if (chat) {
      body["messages"] = messages;
    } else {
      body["prompt"] = messages[0].as_object()["content"];
    }
    const std::string text = codec::DumpJson(body);
    const Api api = chat ? kChat : kText;
    for (size_t size = random() % 4000; size < text.size(); size += random() % 8000)
      learned += LearnBegun(encoder, api, std::string_view(text).substr(0, size));
    const auto expected = oracle.Encode(api, text);
    const auto prompts = encoder.Encode(api, text);
    ASSERT_TRUE(expected && prompts) << text;
    ASSERT_EQ(prompts->front().ids(), expected->front().ids()) << text;
    const kv::BlockKey root = kv::RootKey(16, "", "");
    ASSERT_EQ(prompts->front().Keys(root, 16), expected->front().Keys(root, 16)) << text;
  }
  EXPECT_GT(learned, 50'000u);
}

TEST(BegunBody, WhatWasLearnedIsNotNewWhenTheRestArrives) {
  std::mt19937 random(11);
  std::string text;
  while (text.size() < 300'000) text += fmt::format("word{} and the rest ", random() % 100'000);
  for (const Api api : {kChat, kText}) {
    const Encoder encoder = MakeEncoder("qwen3", 64 << 20);
    const std::string body = api == kText ? R"({"prompt":")" + text + R"("})"
                                          : R"({"messages":[{"role":"user","content":")" + text +
                                                R"("}],"max_tokens":5})";
    PlainBody plain;
    ASSERT_TRUE(ReadPlainBody(api, body, plain));
    EXPECT_FALSE(encoder.EncodeKnown(api, plain, 30'000));
    size_t learned = 0;
    for (size_t size = 64 << 10; size < body.size(); size += 64 << 10)
      learned += LearnBegun(encoder, api, std::string_view(body).substr(0, size));
    EXPECT_GT(learned, 240'000u);
    EXPECT_LT(learned, body.size());
    EXPECT_EQ(LearnBegun(encoder, api, std::string_view(body).substr(0, 200'000)), 0u);
    ASSERT_TRUE(ReadPlainBody(api, body, plain));
    EXPECT_TRUE(encoder.EncodeKnown(api, plain, 60'000));
  }
}

}  // namespace
}  // namespace warmpath::prompt
