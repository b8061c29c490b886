// Property: what is known of earlier prompts never changes what is said of a later one. The oracle
// is an encoder without any memory, which takes the full way for every body.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>

#include "kv/keys.h"
#include "prompt/encoder.h"
#include "prompt/test_texts.h"
#include "prompt/test_tokenizers.h"

namespace warmpath::prompt {
namespace {

constexpr int64_t kNow = 1795348800;

Encoder MakeEncoder(const std::string& name, size_t cache_bytes) {
  return Encoder(TestTokenizer(name), {.cache_bytes = cache_bytes, .now = [] { return kNow; }});
}

struct Tally {
  size_t prompts = 0;
  size_t quick = 0;
  size_t known_tokens = 0;
  size_t tokens = 0;
};

void ExpectEqual(const EncodedPrompt& prompt, const EncodedPrompt& whole, const std::string& body) {
  ASSERT_EQ(prompt.token_count(), whole.token_count()) << body;
  const kv::BlockKey root = kv::RootKey(16, "", "");
  ASSERT_EQ(prompt.Keys(root, 16), whole.Keys(root, 16)) << body;
  ASSERT_EQ(prompt.ids(), whole.ids()) << body;
  ASSERT_EQ(prompt.text(), whole.text()) << body;
}

void ExpectEqual(const Encoder& encoder, const Encoder& oracle, Api api, const std::string& body,
                 Tally& tally) {
  const auto expected = oracle.Encode(api, body);
  PlainBody plain;
  if (encoder.Read(api, body, plain)) {
    if (const auto known = encoder.EncodeKnown(api, plain, 1000)) {
      ASSERT_TRUE(expected && expected->size() == known->size()) << body;
      ExpectEqual(known->front(), expected->front(), body);
      ++tally.quick;
    }
  }
  const auto prompts = encoder.Encode(api, body);
  ASSERT_EQ(prompts.has_value(), expected.has_value()) << body;
  if (!expected) {
    ASSERT_EQ(prompts.error().code, expected.error().code) << body;
    ASSERT_EQ(prompts.error().message, expected.error().message) << body;
    return;
  }
  ASSERT_EQ(prompts->size(), expected->size());
  for (size_t i = 0; i < prompts->size(); ++i) {
    ExpectEqual((*prompts)[i], (*expected)[i], body);
    ++tally.prompts;
    tally.tokens += (*prompts)[i].token_count();
    tally.known_tokens += (*prompts)[i].known_tokens();
  }
}

// Every recorded body, cut behind each of its messages.
std::vector<std::string> RecordedBodies(const std::string& tokenizer) {
  std::vector<std::string> bodies;
  for (const auto& row : TestRows("golden/chat_render_vllm.jsonl")) {
    if (Text(row, "tokenizer") != tokenizer) continue;
    bodies.push_back(Text(row, "request_body"));
    auto body = codec::ParseJson(bodies.back());
    if (!body || !body->is_object()) continue;
    auto* messages = body->get_object().if_contains("messages");
    if (messages == nullptr || !messages->is_array()) continue;
    auto& list = messages->get_array();
    while (list.size() > 1) {
      list.pop_back();
      bodies.push_back(codec::DumpJson(*body));
    }
  }
  for (const auto& row : TestRows("golden/chat_template_vectors.jsonl")) {
    if (Text(row, "tokenizer") != tokenizer) continue;
    auto request = row.at("request");
    auto& list = request.get_object().at("messages").get_array();
    while (!list.empty()) {
      bodies.push_back(codec::DumpJson(request));
      list.pop_back();
    }
  }
  return bodies;
}

class Incremental : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Prefix, Incremental, testing::ValuesIn(kTokenizerNames),
                         [](const auto& info) { return info.param; });

TEST_P(Incremental, EqualsFullForEveryRecordedBodyCutAtEveryMessageInAnyOrder) {
  if (GetParam() == "gptoss") GTEST_SKIP() << "gpt-oss has no chat template";
  std::vector<std::string> bodies = RecordedBodies(GetParam());
  ASSERT_GT(bodies.size(), 150u);
  const Encoder oracle = MakeEncoder(GetParam(), 0);
  std::mt19937 random(3);
  for (const size_t cache_bytes : {size_t{20'000}, size_t{400'000}, size_t{64} << 20}) {
    const Encoder encoder = MakeEncoder(GetParam(), cache_bytes);
    Tally tally;
    for (int round = 0; round < 2; ++round) {
      std::shuffle(bodies.begin(), bodies.end(), random);
      for (const std::string& body : bodies) {
        ExpectEqual(encoder, oracle, Api::kChatCompletions, body, tally);
        if (HasFatalFailure()) return;
      }
    }
    if (cache_bytes > 1 << 20) {
      EXPECT_GT(tally.known_tokens, tally.tokens / 4);
      EXPECT_GT(tally.quick, tally.prompts / 4);
    }
  }
}

// Texts as clients write them, with the characters that parsers, templates and tokenizers treat in
// ways of their own.
class Writer {
 public:
  explicit Writer(unsigned seed) : random_(seed) {}

  size_t Below(size_t bound) { return random_() % bound; }

  std::string Content() {
    std::string text;
    switch (Below(6)) {
      case 0:
        break;
      case 1:
        return Prose(100 + Below(9000));
      case 2:
        text = Prose(50 + Below(400));
        break;
      default:
        text = Prose(3);
    }
    for (size_t count = Below(12); count > 0; --count)
      text += kTextPieces[Below(kTextPieces.size())];
    if (Below(3) == 0) text += Prose(20);
    return text;
  }

  std::string Prose(size_t bytes) {
    static const std::vector<std::string> kWords = {
        "warm", "cache", "of", "the", "engine", "a", "request", "Prefix", "tokens", "I", "größe"};
    std::string text;
    while (text.size() < bytes) {
      text += kWords[Below(kWords.size())];
      text += Below(12) == 0 ? ".\n" : Below(30) == 0 ? "\"" : " ";
    }
    text.back() = 'x';
    return text;
  }

  // A JSON string of `text`, escaped more or less.
  std::string Quoted(const std::string& text, unsigned zeal) {
    std::string out = "\"";
    for (size_t i = 0; i < text.size();) {
      const auto lead = static_cast<uint8_t>(text[i]);
      const size_t size = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
      const bool escape = Below(100) < zeal;
      if (lead == '\n') {
        out += "\\n";
      } else if (lead == '"' || lead == '\\') {
        out += {'\\', static_cast<char>(lead)};
      } else if (lead == '/' && escape) {
        out += "\\/";
      } else if (lead < 0x20 || escape) {
        AppendEscape(out, Character(text.substr(i, size)));
      } else {
        out += text.substr(i, size);
      }
      i += size;
    }
    return out + '"';
  }

 private:
  static uint32_t Character(const std::string& utf8) {
    const auto at = [&](size_t i) { return static_cast<uint8_t>(utf8[i]); };
    if (utf8.size() == 1) return at(0);
    uint32_t code = at(0) & (0x7F >> utf8.size());
    for (size_t i = 1; i < utf8.size(); ++i) code = code << 6 | (at(i) & 0x3F);
    return code;
  }

  void AppendEscape(std::string& out, uint32_t code) {
    const auto unit = [&](uint32_t u) {
      static constexpr std::string_view kDigits[] = {"0123456789abcdef", "0123456789ABCDEF"};
      const std::string_view digits = kDigits[Below(2)];
      out += "\\u";
      for (int shift = 12; shift >= 0; shift -= 4) out += digits[(u >> shift) & 15];
    };
    if (code < 0x10000) return unit(code);
    unit(0xD800 + ((code - 0x10000) >> 10));
    unit(0xDC00 + ((code - 0x10000) & 0x3FF));
  }

  std::mt19937 random_;
};

std::string Message(Writer& writer, const std::string& role) {
  static constexpr unsigned kZeal[] = {0, 0, 0, 3, 40, 100};
  const unsigned zeal = kZeal[writer.Below(6)];
  std::string content = writer.Quoted(writer.Content(), zeal);
  if (writer.Below(8) == 0) {
    content = R"([{"type":"text","text":)" + content + R"(},{"text":)" +
              writer.Quoted(writer.Content(), zeal) + R"(,"type":"text"}])";
  }
  std::string extra;
  if (role == "assistant" && writer.Below(6) == 0) {
    extra = R"(,"reasoning_content":)" + writer.Quoted(writer.Content(), zeal);
  }
  return writer.Below(2) == 0
             ? R"({"role":")" + role + R"(","content":)" + content + extra + "}"
             : R"({ "content": )" + content + extra + R"(, "role": ")" + role + R"("})";
}

TEST_P(Incremental, EqualsFullForRandomConversationsThatGrowAndBranch) {
  const Encoder oracle = MakeEncoder(GetParam(), 0);
  const Encoder small = MakeEncoder(GetParam(), 60'000);
  const Encoder large = MakeEncoder(GetParam(), 8 << 20);
  Writer writer(static_cast<unsigned>(std::hash<std::string>()(GetParam())));
  std::vector<std::vector<std::string>> conversations = {{}};
  Tally in_small, in_large;
  for (int round = 0; round < 220; ++round) {
    // Go on from any conversation so far, or from the middle of it.
    auto messages = conversations[writer.Below(conversations.size())];
    if (writer.Below(4) == 0) messages.resize(writer.Below(messages.size() + 1));
    if (messages.size() > 12) messages.clear();
    if (messages.empty() && writer.Below(2) == 0) {
      messages.push_back(Message(writer, writer.Below(3) == 0 ? "developer" : "system"));
    }
    const bool user = messages.empty() || messages.back().find(R"("user")") == std::string::npos;
    messages.push_back(Message(writer, writer.Below(30) == 0 ? "tool"
                                       : user                ? "user"
                                                             : "assistant"));
    conversations.push_back(messages);
    std::string body = R"({"model":"m","messages":[)";
    for (size_t i = 0; i < messages.size(); ++i) body += (i == 0 ? "" : ",") + messages[i];
    body += writer.Below(2) == 0 ? R"(],"temperature":0.5,"max_tokens":7})" : R"(],"stream":true})";
    ExpectEqual(small, oracle, Api::kChatCompletions, body, in_small);
    ExpectEqual(large, oracle, Api::kChatCompletions, body, in_large);
    if (HasFatalFailure()) return;
  }
  EXPECT_LE(in_small.known_tokens, in_large.known_tokens);
  if (GetParam() != "gptoss") {
    EXPECT_GT(in_large.prompts, 100u);
    EXPECT_GT(in_large.known_tokens, in_large.tokens / 4);
  }
}

TEST_P(Incremental, EqualsFullForTextsWithACommonBeginning) {
  const Encoder oracle = MakeEncoder(GetParam(), 0);
  const Encoder encoder = MakeEncoder(GetParam(), 8 << 20);
  Writer writer(17);
  const std::string common = writer.Prose(30'000) + writer.Content() + writer.Prose(10'000);
  Tally tally;
  for (int round = 0; round < 60; ++round) {
    const std::string text = common.substr(0, writer.Below(3) == 0 ? 20'000 : common.size());
    const unsigned zeal = round % 4 == 3 ? 20 : 0;
    const std::string own = writer.Content();
    // A cut may fall into a character of several bytes: such bodies are refused.
    const std::string quoted = writer.Quoted(fmt::format("{} {}", text, own), zeal);
    const std::string special = round % 3 == 0 ? R"(,"add_special_tokens":false)" : "";
    ExpectEqual(encoder, oracle, Api::kCompletions,
                fmt::format(R"({{"prompt":{}{}}})", quoted, special), tally);
    ExpectEqual(encoder, oracle, Api::kCompletions,
                R"({"prompt":[)" + quoted + R"(],"truncate_prompt_tokens":100})", tally);
    if (HasFatalFailure()) return;
  }
  if (TestTokenizer(GetParam())->cuts_between_words()) {
    EXPECT_GT(tally.known_tokens, tally.tokens / 4);
  }
}

TEST_P(Incremental, EqualsFullForTextsThatPartAnywhere) {
  const Encoder oracle = MakeEncoder(GetParam(), 0);
  const Encoder encoder = MakeEncoder(GetParam(), 8 << 20);
  Writer writer(23);
  std::string common = R"({"prompt":)" + writer.Quoted(writer.Prose(12'000), 1);
  common.pop_back();
  std::vector<size_t> places;
  for (int i = 0; i < 8; ++i) {
    size_t place = 100 + writer.Below(common.size() - 100);
    // Not in the middle of a character or of an escape.
    while ((common[place] & 0x80) != 0 ||
           common.substr(place - 6, 6).find('\\') != std::string::npos)
      ++place;
    places.push_back(place);
  }
  Tally tally;
  for (int round = 0; round < 80; ++round) {
    const std::string own = writer.Quoted(writer.Prose(10 + writer.Below(6000)), round % 3);
    ExpectEqual(encoder, oracle, Api::kCompletions,
                common.substr(0, places[writer.Below(places.size())]) + own.substr(1) + "}", tally);
    if (HasFatalFailure()) return;
  }
}

TEST(IncrementalForks, WhatTextsHaveInCommonIsKnownFromTheThirdOn) {
  const Encoder encoder = MakeEncoder("qwen3", 8 << 20);
  Writer writer(29);
  const std::string common = writer.Prose(22'000);
  const size_t tokens = TestTokenizer("qwen3")->Encode(common, false)->size();
  std::vector<size_t> known;
  for (int round = 0; round < 4; ++round) {
    const auto prompts = encoder.Encode(
        Api::kCompletions, R"({"prompt":)" + writer.Quoted(common + writer.Prose(6000), 0) + "}");
    known.push_back(prompts->front().known_tokens());
  }
  EXPECT_EQ(known[0], 0u);
  EXPECT_LT(known[1], tokens - 50);
  EXPECT_GT(known[2], tokens - 50);
  EXPECT_EQ(known[2], known[3]);
}

TEST(IncrementalThreads, ShareOneEncoderThatForgets) {
  const Encoder oracle = MakeEncoder("qwen3", 0);
  const Encoder encoder = MakeEncoder("qwen3", 100'000);
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      Writer writer(seed % 2);
      std::string messages;
      Tally tally;
      for (int turn = 0; turn < 25; ++turn) {
        messages += (turn == 0 ? "" : ",") + Message(writer, turn % 2 == 0 ? "user" : "assistant");
        ExpectEqual(encoder, oracle, Api::kChatCompletions, R"({"messages":[)" + messages + "]}",
                    tally);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace warmpath::prompt
