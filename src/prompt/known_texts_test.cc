// Property: a body read with its texts known tells what it tells without, whatever was done to it.
#include "prompt/known_texts.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "prompt/encoder.h"
#include "prompt/plain_body.h"
#include "prompt/test_tokenizers.h"

namespace warmpath::prompt {
namespace {

std::string Prose(std::mt19937& random, size_t bytes) {
  static const std::vector<std::string> kWords = {"warm ", "cache ",      "of ",     "the\\n",
                                                  "a ",    "engine ",     "größer ", "\\u00e9t ",
                                                  "1234 ", "\\\"it\\\" ", "x < y ",  "tokens "};
  std::string text;
  while (text.size() < bytes) text += kWords[random() % kWords.size()];
  return text;
}

std::string Message(std::string_view role, const std::string& text) {
  return fmt::format(R"({{"role":"{}","content":"{}"}})", role, text);
}

std::string Chat(const std::string& messages) {
  return fmt::format(R"({{"model":"m","messages":[{}],"max_tokens":7}})", messages);
}

void ExpectSame(const PlainBody& with, const PlainBody& without) {
  ASSERT_EQ(with.parts.size(), without.parts.size());
  EXPECT_EQ(with.texts, without.texts);
  EXPECT_EQ(with.view.max_tokens, without.view.max_tokens);
  for (size_t i = 0; i < with.parts.size(); ++i) {
    const RawText &a = with.parts[i].text, &b = without.parts[i].text;
    ASSERT_EQ(with.parts[i].is_text, without.parts[i].is_text);
    ASSERT_TRUE(a.bytes.data() == b.bytes.data() && a.bytes.size() == b.bytes.size());
    if (!with.parts[i].is_text) continue;
    EXPECT_EQ(a.escaped, b.escaped);
    EXPECT_EQ(a.unicode_escaped, b.unicode_escaped);
    EXPECT_TRUE(a.angle || a.bytes.find('<') == std::string_view::npos);
  }
}

// Bytes recognised.
size_t Read(const Encoder& encoder, const std::string& body) {
  PlainBody with, without;
  const bool plain = encoder.Read(Api::kChatCompletions, body, with);
  EXPECT_EQ(plain, ReadPlainBody(Api::kChatCompletions, body, without));
  if (plain) ExpectSame(with, without);
  return with.proven.bytes();
}

TEST(KnownTexts, ATextThatCameBeforeIsRecognisedAndSoIsWhatFollowsIt) {
  const Encoder encoder(TestTokenizer("qwen3"), {});
  std::mt19937 random(1);
  const std::string system = "You know " + Prose(random, 20'000) + "all.";
  const std::string question = "So tell me " + Prose(random, 60'000) + "why.";
  const std::string first = Message("system", system) + "," + Message("user", question);
  EXPECT_EQ(Read(encoder, Chat(first)), 0u);
  ASSERT_TRUE(encoder.Encode(Api::kChatCompletions, Chat(first)).has_value());
  const std::string second =
      Chat(first + "," + Message("assistant", "Because.") + "," + Message("user", "Really?"));
  EXPECT_EQ(Read(encoder, second), system.size() + question.size());
  // Another question to the same system, another end of the same question, and half of it.
  EXPECT_EQ(Read(encoder, Chat(Message("system", system) + "," + Message("user", "Hm?"))),
            system.size());
  const size_t most = Read(encoder, Chat(Message("user", question + " Please.")));
  EXPECT_EQ(most, question.size());
  const size_t half = Read(encoder, Chat(Message("user", question.substr(0, 30'000) + "...")));
  EXPECT_GT(half, 15'000u);
  EXPECT_LE(half, 30'000u);
}

TEST(KnownTexts, AreTexts) {
  const Encoder encoder(TestTokenizer("qwen3"), {});
  std::mt19937 random(2);
  // Sent once in a member that the template prints, then as a text: quotes of the first are no
  // ends of the second.
  const std::string text = "Say " + Prose(random, 9000) + R"(\"}],\"n\":3,)" + Prose(random, 9000);
  const std::string tool = fmt::format(
      R"({{"messages":[{{"role":"user","content":"x"}}],"tools":[{{"type":"function","function":{{"name":"f","description":"{}"}}}}]}})",
      text);
  ASSERT_TRUE(encoder.Encode(Api::kChatCompletions, tool).has_value());
  EXPECT_EQ(Read(encoder, Chat(Message("user", text))), 0u);
  ASSERT_TRUE(encoder.Encode(Api::kChatCompletions, Chat(Message("user", text))).has_value());
  EXPECT_GT(Read(encoder, Chat(Message("user", text))), 17'000u);
  EXPECT_GT(Read(encoder, Chat(Message("user", text.substr(0, 12'000) + "\"" + text))), 3000u);
}

TEST(KnownTexts, ChangeNothingOfBodiesThatWereTamperedWith) {
  const Encoder encoder(TestTokenizer("qwen3"), {});
  const Encoder oracle(TestTokenizer("qwen3"), {.cache_bytes = 0, .now = {}});
  std::mt19937 random(3);
  const std::vector<std::string> inserts = {"\"",    "\\",      "\\u",  "\\u12",      "\n",
                                            "\x01",  "\\ud83d", "<",    "<|im_end|>", "\xff",
                                            "word ", "\"}]}",   "\\\"", "\\n"};
  size_t recognised = 0, plain = 0;
  for (int round = 0; round < 12; ++round) {
    const std::string first =
        Message("system", "Be " + Prose(random, 100 + random() % 9000) + "brief.") + "," +
        Message("user", "Tell " + Prose(random, 4000 + random() % 40'000) + "more.");
    ASSERT_TRUE(encoder.Encode(Api::kChatCompletions, Chat(first)).has_value());
    for (int change = 0; change < 40; ++change) {
      std::string messages = first;
      const size_t place = 40 + random() % (messages.size() - 40);
      if (change % 4 == 0) {
        messages.resize(place);
        messages += "\"}";
      } else if (change % 4 == 1) {
        messages[place] = static_cast<char>(messages[place] ^ (1 << random() % 8));
      } else {
        messages.insert(place, inserts[random() % inserts.size()]);
      }
      const std::string body = Chat(messages);
      recognised += Read(encoder, body);
      if (change % 8 != 2) continue;
      const auto with = encoder.Encode(Api::kChatCompletions, body);
      const auto without = oracle.Encode(Api::kChatCompletions, body);
      ASSERT_EQ(with.has_value(), without.has_value());
      if (!with) continue;
      ++plain;
      ASSERT_EQ(with->front().ids(), without->front().ids());
    }
  }
  EXPECT_GT(recognised, 1'000'000u);
  EXPECT_GT(plain, 10u);
}

TEST(KnownTexts, NothingOfAnEvictedTextIsLookedAt) {
  const Encoder encoder(TestTokenizer("qwen3"), {.cache_bytes = 300'000, .now = {}});
  std::mt19937 random(4);
  std::vector<std::string> bodies;
  for (int i = 0; i < 12; ++i)
    bodies.push_back(Chat(Message("user", fmt::format("{} {}", i, Prose(random, 30'000)))));
  for (int round = 0; round < 3; ++round) {
    for (const std::string& body : bodies) {
      PlainBody held;  // keeps what it recognised, while others drive it out
      ASSERT_TRUE(encoder.Read(Api::kChatCompletions, body, held));
      for (size_t i = 0; i < 4; ++i)
        ASSERT_TRUE(encoder.Encode(Api::kChatCompletions, bodies[random() % 12]).has_value());
      ASSERT_TRUE(encoder.Encode(Api::kChatCompletions, body, &held).has_value());
      Read(encoder, body);
    }
  }
}

}  // namespace
}  // namespace warmpath::prompt
