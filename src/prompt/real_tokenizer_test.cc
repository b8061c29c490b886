// What holds of the tokenizers and templates of real models.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "prompt/test_tokenizers.h"

namespace warmpath::prompt {
namespace {

// Everywhere between an ASCII letter and a single space before an ASCII letter.
std::vector<size_t> WordCuts(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  std::vector<size_t> cuts;
  for (size_t i = 1; i + 1 < text.size(); ++i) {
    if (text[i] == ' ' && letter(text[i - 1]) && letter(text[i + 1])) cuts.push_back(i);
  }
  return cuts;
}

class RealTokenizer : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Content, RealTokenizer, testing::ValuesIn(kTokenizerNames),
                         [](const auto& info) { return info.param; });

TEST_P(RealTokenizer, PassesContentsThroughItsTemplate) {
  const auto& rules = TestTokenizer(GetParam())->content_rules();
  if (GetParam() == "gptoss") {
    EXPECT_FALSE(rules.opaque);
    EXPECT_EQ(rules.reason, "the model has no chat template");
    return;
  }
  EXPECT_TRUE(rules.opaque) << rules.reason;
  const std::vector<std::string> thinking = {"</think>", "</tool_response>", "<think>",
                                             "<tool_response>"};
  EXPECT_EQ(rules.marks, GetParam() == "qwen3" ? thinking : std::vector<std::string>{});
}

// As a caller would: stand-ins for the texts that meet the conditions.
class StandIns {
 public:
  explicit StandIns(const Tokenizer::ContentRules& rules) : rules_(rules) {}

  // Takes `text` and leaves a stand-in, if it may.
  void Take(codec::Json& text) {
    if (!text.is_string()) return;
    const std::string_view view = text.as_string();
    const auto edge = [](char c) { return static_cast<unsigned char>(c) > 0x20 && c != 0x7F; };
    if (view.empty() || !edge(view.front()) || !edge(view.back()) ||
        static_cast<signed char>(view.front()) < 0 || static_cast<signed char>(view.back()) < 0) {
      return;
    }
    for (const auto& mark : rules_.marks) {
      if (view.find(mark) != std::string_view::npos) return;
    }
    texts_.emplace_back(view);
    text = fmt::format("Sh4pe{}z", texts_.size() - 1);
  }
  std::string Fill(std::string_view skeleton) const {
    std::string out;
    for (size_t at = skeleton.find("Sh4pe"); at != std::string_view::npos;
         at = skeleton.find("Sh4pe")) {
      const size_t end = skeleton.find('z', at);
      out += skeleton.substr(0, at);
      out += texts_.at(std::stoul(std::string(skeleton.substr(at + 5, end - at - 5))));
      skeleton.remove_prefix(end + 1);
    }
    return out.append(skeleton);
  }
  size_t size() const { return texts_.size(); }

 private:
  const Tokenizer::ContentRules& rules_;
  std::vector<std::string> texts_;
};

TEST_P(RealTokenizer, ARenderingWithStandInsIsFilledToTheRealOne) {
  if (GetParam() == "gptoss") GTEST_SKIP() << "gpt-oss has no chat template";
  const auto tokenizer = TestTokenizer(GetParam());
  const std::vector<std::string> odd = {
      "a\nb", "{{ x }}", "it's \"q\" <b>&amp;", "<think",   "think>", "\u00e9\u0301 x",
      "[1]",  "None",    "<|im_end|>",          "a\tb\r\nc"};
  size_t filled = 0;
  size_t taken = 0;
  const auto check = [&](const codec::Json& body) {
    codec::Json shape = body;
    StandIns stand_ins(tokenizer->content_rules());
    for (auto& message : shape.at("messages").as_array()) {
      if (!message.is_object() || !message.as_object().contains("content")) continue;
      auto& content = message.at("content");
      stand_ins.Take(content);
      if (!content.is_array()) continue;
      for (auto& part : content.as_array()) {
        if (part.is_object() && part.as_object().contains("text")) stand_ins.Take(part.at("text"));
      }
    }
    const auto want = tokenizer->RenderChatBody(codec::DumpJson(body), 0);
    const auto skeleton = tokenizer->RenderChatBody(codec::DumpJson(shape), 0);
    ASSERT_EQ(want.has_value(), skeleton.has_value()) << codec::DumpJson(body);
    if (!want) return;
    EXPECT_EQ(stand_ins.Fill(skeleton->text), want->text) << codec::DumpJson(body);
    ++filled;
    taken += stand_ins.size();
  };
  for (const auto& row : TestRows("golden/chat_render_vllm.jsonl")) {
    auto body = codec::ParseJson(Text(row, "request_body"));
    if (!body || !body->is_object() || codec::Find(*body, "messages") == nullptr ||
        !body->at("messages").is_array() ||
        codec::FindBool(*body, "continue_final_message").value_or(false)) {
      continue;
    }
    check(*body);
    size_t next = 0;
    for (auto& message : body->at("messages").as_array()) {
      if (!message.is_object() || !message.as_object().contains("content")) continue;
      if (message.at("content").is_string()) {
        message.at("content") = odd[(filled + next++) % odd.size()];
      }
    }
    check(*body);
  }
  EXPECT_GT(filled, 300u);
  EXPECT_GT(taken, 500u);
}

TEST_P(RealTokenizer, PiecesEndWithTheTokensThatEndTurns) {
  const std::map<std::string, std::string> ends = {
      {"qwen3", "<|im_end|>"},     {"llama3", "<|eot_id|>"},
      {"llama3_1", "<|eot_id|>"},  {"deepseek_v3", "<｜end▁of▁sentence｜>"},
      {"gemma3", "<end_of_turn>"}, {"gptoss", "<|end|>"}};
  const std::string text = "ab" + ends.at(GetParam());
  EXPECT_EQ(TestTokenizer(GetParam())->CutPoints(text + "c", 1).value(),
            (std::vector<uint64_t>{text.size()}));
}

TEST_P(RealTokenizer, TextCutBetweenWordsHasTheSameIds) {
  const auto tokenizer = TestTokenizer(GetParam());
  ASSERT_EQ(tokenizer->cuts_between_words(), GetParam() != "gemma3");
  if (!tokenizer->cuts_between_words()) return;
  const std::vector<std::string> atoms = {
      " ",          " ",        " ",      " ",       "a",        "Z",          "word",
      "The",        "I'm",      "'s",     "'LL",     "\n",       "\r\n",       "\t",
      "  ",         "1",        "1234",   ".",       "!?",       "\"",         "_",
      "-",          "/",        "#",      "(",       "é",        "ñ",          "ß",
      "日本",       "한",       "ا",      "ไทย",     "🙂",       "\u0301",     "\u00a0",
      "\u2003",     "\u200d",   "\u1f8d", "e\u0301", "K\u0327",  "<|im_end|>", "<|eot_id|>",
      "<｜User｜>", "</think>", "²",      "x y",     "Word one", "a Bc",       "I'll q",
      "end s"};
  std::mt19937 random(7);
  std::uniform_int_distribution<size_t> pick(0, atoms.size() - 1);
  size_t cuts = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (size_t n = 4 + random() % 60; n > 0; --n) text += atoms[pick(random)];
    const auto whole = tokenizer->Encode(text, false).value();
    for (const size_t cut : WordCuts(text)) {
      ++cuts;
      auto ids = tokenizer->Encode(std::string_view(text).substr(0, cut), false).value();
      const auto rest = tokenizer->Encode(std::string_view(text).substr(cut), false).value();
      ids.insert(ids.end(), rest.begin(), rest.end());
      ASSERT_EQ(ids, whole) << cut << " in " << text;
    }
  }
  EXPECT_GT(cuts, 3000u);
}

}  // namespace
}  // namespace warmpath::prompt
