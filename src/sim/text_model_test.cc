#include "sim/text_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

namespace warmpath::sim {
namespace {

using Tokens = TextModel::Tokens;

void ExpectCleanOutput(const TextModel& model) {
  const Tokens prompt = {1, 2, 3};
  const uint64_t key = TextModel::OutputKey(7, prompt, 0);
  Tokens output;
  for (uint32_t i = 0; i < 200; ++i) output.push_back(model.OutputToken(key, i));
  const std::string text = model.Decode(output);
  EXPECT_TRUE(std::ranges::all_of(text, [](char c) { return c == ' ' || (c >= 'a' && c <= 'z'); }))
      << text;
  EXPECT_EQ(*model.EncodeText(text, false), output)
      << "an answer reads back as the tokens generated";
}

TEST(TextModel, TheBuiltinVocabularyIsReversible) {
  auto model = TextModel::Load("");
  ASSERT_TRUE(model);
  const std::string text = "Grüße, a river and\n\tmore";
  EXPECT_EQ((*model)->Decode(*(*model)->EncodeText(text, true)), text);
  ExpectCleanOutput(**model);
}

TEST(TextModel, OutputIsAFunctionOfSeedPromptAndChoice) {
  auto model = TextModel::Load("");
  ASSERT_TRUE(model);
  const Tokens prompt = {1, 2, 3}, other = {1, 2, 4};
  EXPECT_EQ(TextModel::OutputKey(7, prompt, 0), TextModel::OutputKey(7, prompt, 0));
  EXPECT_NE(TextModel::OutputKey(7, prompt, 0), TextModel::OutputKey(8, prompt, 0));
  EXPECT_NE(TextModel::OutputKey(7, prompt, 0), TextModel::OutputKey(7, other, 0));
  EXPECT_NE(TextModel::OutputKey(7, prompt, 0), TextModel::OutputKey(7, prompt, 1));
}

TEST(TextModel, AFollowUpTurnExtendsTheTokensOfTheTurnBefore) {
  auto model = TextModel::Load("");
  ASSERT_TRUE(model);
  const auto first = (*model)->Encode(prompt::Api::kChatCompletions,
                                      R"({"messages":[{"role":"user","content":"hi"}]})");
  const auto second = (*model)->Encode(
      prompt::Api::kChatCompletions,
      R"({"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"river"},{"role":"user","content":"x"}]})");
  ASSERT_TRUE(first && second);
  const Tokens& shorter = first->front();
  EXPECT_TRUE(std::equal(shorter.begin(), shorter.end(), second->front().begin()));
}

TEST(TextModel, WithATokenizerTheTokensAreTheModels) {
  const std::string directory = std::string(WARMPATH_TOKENIZERS) + "/qwen3";
  if (!std::filesystem::exists(directory)) GTEST_SKIP() << "tokenizers are not set up";
  auto model = TextModel::Load(directory);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(*(*model)->EncodeText("Hello, world!", true), (Tokens{9707, 11, 1879, 0}));
  ExpectCleanOutput(**model);
}

}  // namespace
}  // namespace warmpath::sim
