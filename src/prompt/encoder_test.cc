#include "prompt/encoder.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "prompt/test_texts.h"
#include "prompt/test_tokenizers.h"
#include "prompt/tiny_tokenizer.h"

namespace warmpath::prompt {
namespace {

// An encoder over the tiny tokenizer: ids are bytes, <s> is 256.
class TinyEncoder : public testing::Test {
 protected:
  static void SetUpTestSuite() { encoder_ = new Encoder(LoadTinyTokenizer(), {}); }
  static void TearDownTestSuite() {
    delete encoder_;
    encoder_ = nullptr;
  }

  static std::vector<std::vector<kv::TokenId>> Completions(std::string_view body) {
    auto prompts = encoder_->Encode(Api::kCompletions, body);
    EXPECT_TRUE(prompts.has_value()) << body << ": " << prompts.error().message;
    std::vector<std::vector<kv::TokenId>> ids;
    if (prompts) {
      for (auto& prompt : *prompts) ids.push_back(prompt.ids());
    }
    return ids;
  }
  static std::string Chat(std::string_view body) {
    auto prompts = encoder_->Encode(Api::kChatCompletions, body);
    EXPECT_TRUE(prompts.has_value()) << body << ": " << prompts.error().message;
    return prompts ? prompts->at(0).text() : "";
  }
  static Code Refusal(Api api, std::string_view body) {
    const auto prompts = encoder_->Encode(api, body);
    EXPECT_FALSE(prompts.has_value()) << body;
    return prompts ? Code::kInternal : prompts.error().code;
  }

  static Encoder* encoder_;
};
Encoder* TinyEncoder::encoder_ = nullptr;

using IdLists = std::vector<std::vector<kv::TokenId>>;

TEST_F(TinyEncoder, TakesEveryFormOfACompletionsPrompt) {
  EXPECT_EQ(Completions(R"({"prompt":"hi"})"), (IdLists{{256, 'h', 'i'}}));
  EXPECT_EQ(Completions(R"({"prompt":["a","b"]})"), (IdLists{{256, 'a'}, {256, 'b'}}));
  EXPECT_EQ(Completions(R"({"prompt":[1,2,259]})"), (IdLists{{1, 2, 259}}));
  EXPECT_EQ(Completions(R"({"prompt":[[1],[2,3]]})"), (IdLists{{1}, {2, 3}}));
}

TEST_F(TinyEncoder, LeavesTextThatWouldTakeAllMemoryToTheEngine) {
  const auto body = [](std::string_view word, size_t times) {
    std::string prompt;
    for (size_t i = 0; i < times; ++i) prompt += word;
    return R"({"prompt":")" + prompt + R"("})";
  };
  const auto refused = [](const std::string& text) { return Refusal(Api::kCompletions, text); };
  EXPECT_EQ(refused(body("a", 1 << 20)), Code::kUnsupported);
  EXPECT_EQ(refused(body(" ", 1 << 20)), Code::kUnsupported);
  EXPECT_EQ(refused(body("!", 1 << 20)), Code::kUnsupported);
  EXPECT_EQ(refused(body("word ", 4 << 20)), Code::kUnsupported);
  EXPECT_EQ(refused(R"({"messages":[],"prompt":["x",")" + std::string(17 << 20, ' ') + R"("]})"),
            Code::kUnsupported);
  EXPECT_EQ(Completions(body("word ", 200 << 10)).at(0).size(), (5u * 200 << 10) + 1);
}

TEST_F(TinyEncoder, CompletionsAddSpecialTokensUnlessToldNotTo) {
  EXPECT_EQ(Completions(R"({"prompt":"a","add_special_tokens":false})"), (IdLists{{'a'}}));
  EXPECT_EQ(Completions(R"({"add_special_tokens":true,"prompt":"a"})"), (IdLists{{256, 'a'}}));
}

TEST_F(TinyEncoder, TheLastPromptOfABodyWins) {
  EXPECT_EQ(Completions(R"({"prompt":[[1],["x"]],"prompt":"a"})"), (IdLists{{256, 'a'}}));
}

TEST_F(TinyEncoder, RefusesCompletionsTheEngineRefuses) {
  for (const char* body :
       {R"({})", R"({"prompt":null})", R"({"prompt":{}})", R"({"prompt":7})", R"({"prompt":[]})",
        R"({"prompt":[[]]})", R"({"prompt":[1,"a"]})", R"({"prompt":[1,-1]})",
        R"({"prompt":[1.5]})", R"({"prompt":[260]})", R"({"prompt":[[1,260]]})",
        R"({"prompt":[null]})", R"({"prompt":"a","add_special_tokens":null})", R"(["prompt"])",
        R"({"prompt":"a")"}) {
    EXPECT_EQ(Refusal(Api::kCompletions, body), Code::kInvalidArgument) << body;
  }
}

TEST_F(TinyEncoder, TruncationKeepsTheLastTokensWhereNothingIsAdded) {
  EXPECT_EQ(
      Completions(R"({"prompt":"abcd","truncate_prompt_tokens":2,"add_special_tokens":false})"),
      (IdLists{{'c', 'd'}}));
  EXPECT_EQ(Completions(R"({"prompt":"ab","truncate_prompt_tokens":9})"),
            (IdLists{{256, 'a', 'b'}}));
  for (const char* body :
       {R"({"prompt":"abcd","truncate_prompt_tokens":2})",
        R"({"prompt":"a","truncate_prompt_tokens":-1})",
        R"({"prompt":[1,2],"truncate_prompt_tokens":1})",
        R"({"prompt":"ab","truncate_prompt_tokens":1,"truncation_side":"right"})"}) {
    EXPECT_EQ(Refusal(Api::kCompletions, body), Code::kUnsupported) << body;
  }
}

TEST_F(TinyEncoder, BoundsTheNumberOfPrompts) {
  std::string body = R"({"prompt":[""])";
  body.pop_back();
  for (int i = 0; i < 5000; ++i) body += ",\"\"";
  EXPECT_EQ(Refusal(Api::kCompletions, body + "]}"), Code::kUnsupported);
}

TEST_F(TinyEncoder, RendersChat) {
  EXPECT_EQ(Chat(R"({"messages":[{"role":"user","content":"hi"}]})"),
            "<s><turn>user: hi<end>\n<turn>assistant: ");
  EXPECT_EQ(Chat(R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},)"
                 R"({"type":"text","text":"b"}]}],"add_generation_prompt":false})"),
            "<s><turn>user: a\nb<end>\n");
  EXPECT_EQ(Chat(R"({"messages":[{"role":"developer","content":"d"},{"role":"user","content":"u"},)"
                 R"({"role":"system","content":"s"}],"add_generation_prompt":false})"),
            "<s><turn>system: d\n\ns<end>\n<turn>user: u<end>\n");
  EXPECT_EQ(
      Chat(R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"so "}],)"
           R"("add_generation_prompt":false,"continue_final_message":true})"),
      "<s><turn>user: q<end>\n<turn>assistant: so ");
}

TEST_F(TinyEncoder, RefusesChatTheEngineRefuses) {
  for (const char* body :
       {R"({})", R"({"messages":null})", R"({"messages":"x"})", R"({"messages":[1]})",
        R"({"messages":[{"content":"x"}]})", R"({"messages":[{"role":"user","content":null}]})",
        R"({"messages":[{"role":"user","content":7}]})",
        R"({"messages":[{"role":"user","content":["a"]}]})",
        R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})",
        R"({"messages":[{"role":"user","content":"\ud800"}]})",
        R"({"messages":[{"role":"user","content":"x"}],"tools":{}})",
        R"({"messages":[{"role":"user","content":"x"}],"tools":[]})",
        R"({"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function"}]})",
        R"({"messages":[{"role":"user","content":"x"}],"chat_template_kwargs":[]})",
        R"({"messages":[{"role":"user","content":"x"}],"add_generation_prompt":null})",
        R"({"messages":[{"role":"user","content":"x"}],"continue_final_message":true})", "[]",
        "{"}) {
    EXPECT_EQ(Refusal(Api::kChatCompletions, body), Code::kInvalidArgument) << body;
  }
}

TEST_F(TinyEncoder, SaysUnsupportedWhereExactTokensCannotBeHad) {
  for (
      const char* body :
      {R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]})",
       R"({"messages":[{"role":"user","content":"x"}],"chat_template":"{{ messages }}"})",
       R"({"messages":[{"role":"user","content":"x"}],"chat_template_kwargs":{"messages":[]}})",
       R"({"messages":[{"role":"user","content":"x"}],"kv_transfer_params":{"prompt_token_ids":[1]}})",
       R"({"messages":[{"role":"user","content":"x"}],"truncate_prompt_tokens":-1})"}) {
    EXPECT_EQ(Refusal(Api::kChatCompletions, body), Code::kUnsupported) << body;
  }
  EXPECT_EQ(Refusal(Api::kResponses, R"({"input":"x"})"), Code::kUnsupported);
  EXPECT_EQ(Refusal(Api::kEmbeddings, R"({"input":"x"})"), Code::kUnsupported);
}

TEST_F(TinyEncoder, TakesTheIdsOfAGenerateBody) {
  const auto prompts = encoder_->Encode(
      Api::kGenerate, R"({"token_ids":[9],"token_ids":[1,2,3],"features":null,"stream":true})");
  ASSERT_TRUE(prompts) << prompts.error().message;
  ASSERT_EQ(prompts->size(), 1u);
  EXPECT_EQ(prompts->at(0).ids(), (std::vector<kv::TokenId>{1, 2, 3}));
  EXPECT_EQ(prompts->at(0).text(), "");
  for (const char* body :
       {"{}", R"({"token_ids":[]})", R"({"token_ids":null})", R"({"token_ids":"1"})",
        R"({"token_ids":[1,-1]})", R"({"token_ids":[1,1000000]})", R"({"token_ids":[1]]})"}) {
    EXPECT_EQ(Refusal(Api::kGenerate, body), Code::kInvalidArgument) << body;
  }
  EXPECT_EQ(
      Refusal(Api::kGenerate, R"({"token_ids":[1],"features":{"mm_hashes":{"image":["a"]}}})"),
      Code::kUnsupported);
}

TEST_F(TinyEncoder, BoundsValuesHiddenInToolCallArguments) {
  std::string arguments = "[0";
  for (int i = 0; i < 1'100'000; ++i) arguments += ",0";
  const std::string body = fmt::format(
      R"({{"messages":[{{"role":"assistant","content":"","tool_calls":[{{"id":"1","type":"function",)"
      R"("function":{{"name":"f","arguments":"{}]"}}}}]}}]}})",
      arguments);
  EXPECT_EQ(Refusal(Api::kChatCompletions, body), Code::kUnsupported);
}

TEST(KnownText, IsEncodedAtOnceAndMuchNewTextIsNot) {
  const Encoder encoder(TestTokenizer("qwen3"), {});
  std::string common;
  for (int i = 0; common.size() < 50'000; ++i) common += fmt::format("{} words of a text ", i);
  const auto body = [&](size_t own, const char* role) {
    return fmt::format(R"({{"messages":[{{"role":"{}","content":"{}{}"}}]}})", role, common,
                       std::string(own, '!'));
  };
  const auto known = [&](const std::string& text) {
    PlainBody plain;
    EXPECT_TRUE(ReadPlainBody(Api::kChatCompletions, text, plain));
    return encoder.EncodeKnown(Api::kChatCompletions, plain, 8000);
  };
  EXPECT_FALSE(known(body(0, "user")));
  EXPECT_FALSE(known(body(0, "user")));  // nothing is kept
  const auto whole = encoder.Encode(Api::kChatCompletions, body(0, "user"));
  ASSERT_TRUE(whole);
  const auto again = known(body(0, "user"));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->at(0).ids(), whole->at(0).ids());
  EXPECT_TRUE(known(body(2000, "user")));
  EXPECT_FALSE(known(body(20'000, "user")));
  EXPECT_FALSE(known(body(0, "assistant")));
}

std::string RandomText(std::mt19937& random, size_t pieces) {
  std::string text;
  std::uniform_int_distribution<size_t> pick(0, kTextPieces.size() - 1);
  for (size_t i = 0; i < pieces; ++i) text += kTextPieces[pick(random)];
  return text;
}

class CachedEncoder : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Prefix, CachedEncoder, testing::ValuesIn(kTokenizerNames),
                         [](const auto& info) { return info.param; });

TEST_P(CachedEncoder, GivesTheSameIdsAsWithoutACacheForGrowingConversations) {
  const auto tokenizer = TestTokenizer(GetParam());
  const Encoder cached(tokenizer, {.cache_bytes = 4 << 20, .now = {}});
  const Encoder plain(tokenizer, {.cache_bytes = 0, .now = {}});
  std::mt19937 random(std::hash<std::string>()(GetParam()) & 0xFFFF);
  std::uniform_int_distribution<size_t> length(1, 120);
  size_t cuts = 0;
  for (int conversation = 0; conversation < 6; ++conversation) {
    codec::JsonArray messages;
    std::string text;
    for (int turn = 0; turn < 12; ++turn) {
      const std::string content = RandomText(random, length(random));
      messages.push_back({{"role", turn % 2 == 0 ? "user" : "assistant"}, {"content", content}});
      const std::string body = codec::DumpJson(codec::JsonObject{{"messages", messages}});
      const auto with = cached.Encode(Api::kChatCompletions, body);
      const auto without = plain.Encode(Api::kChatCompletions, body);
      ASSERT_EQ(with.has_value(), without.has_value());
      if (with) {
        ASSERT_EQ(with->at(0).ids(), without->at(0).ids()) << body;
        ASSERT_EQ(with->at(0).ids(), tokenizer->Encode(with->at(0).text(), false).value());
        cuts += tokenizer->CutPoints(with->at(0).text(), 256)->size();
      }
      text += content;
      const std::string completion =
          codec::DumpJson(codec::JsonObject{{"prompt", text}, {"add_special_tokens", false}});
      ASSERT_EQ(cached.Encode(Api::kCompletions, completion)->at(0).ids(),
                plain.Encode(Api::kCompletions, completion)->at(0).ids())
          << text;
      cuts += tokenizer->CutPoints(text, 256)->size();
    }
  }
  EXPECT_GT(cuts, 50u);
}

TEST(CachedEncoder, ThreadsShareOneEncoder) {
  const auto tokenizer = TestTokenizer("qwen3");
  const Encoder encoder(tokenizer, {.cache_bytes = 1 << 20, .now = {}});
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed % 2);
      codec::JsonArray messages;
      for (int turn = 0; turn < 20; ++turn) {
        messages.push_back({{"role", "user"}, {"content", RandomText(random, 80)}});
        const auto prompts = encoder.Encode(
            Api::kChatCompletions, codec::DumpJson(codec::JsonObject{{"messages", messages}}));
        ASSERT_TRUE(prompts.has_value());
        EXPECT_EQ(prompts->at(0).ids(), tokenizer->Encode(prompts->at(0).text(), false).value());
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace warmpath::prompt
