#include "routing/foresight.h"

#include "routing/director_testing.h"

namespace warmpath::routing {
namespace {

class ForesightTest : public DirectorTest {
 protected:
  // A chat whose text is `words` words nobody has sent before.
  static std::string Chat(size_t words, size_t seed, const std::string& model = "m") {
    std::string text;
    for (size_t i = 0; i < words; ++i) text += fmt::format("some word{} ", seed + i);
    return R"({"model":")" + model + R"(","messages":[{"role":"user","content":")" + text +
           R"("}]})";
  }
  double Foreseen() {
    const std::string text = metrics_.Render();
    const std::string series = "\nwarmpath_foreseen_text_bytes_total ";
    return std::stod(text.substr(text.find(series) + series.size()));
  }
  static bool RunHere(const std::function<void()>& work) {
    work();
    return true;
  }
};

TEST_F(ForesightTest, WhatWasForeseenIsKnownAndNothingElseChanges) {
  const std::string body = Chat(12'000, 1'000'000);
  RequestAttributes attributes;
  EXPECT_FALSE(director_.PrepareIfQuick("r", prompt::Api::kChatCompletions, body, attributes));
  director_.Foresee(prompt::Api::kChatCompletions,
                    std::string_view(body).substr(0, body.size() - 5000));
  EXPECT_GT(Foreseen(), static_cast<double>(body.size()) - 25'000);
  EXPECT_LT(Foreseen(), static_cast<double>(body.size()));
  auto quick = director_.PrepareIfQuick("r", prompt::Api::kChatCompletions, body, attributes);
  ASSERT_TRUE(quick && *quick);
  const prompt::Encoder oracle(
      std::shared_ptr<const prompt::Tokenizer>(QwenEncoder(), &QwenEncoder()->tokenizer()),
      {.cache_bytes = 0, .now = {}});
  const auto whole = oracle.Encode(prompt::Api::kChatCompletions, body);
  ASSERT_TRUE(whole);
  EXPECT_EQ((*quick)->prompts.front().ids(), whole->front().ids());
  // Requests are counted when they are prepared, not before.
  EXPECT_NE(metrics_.Render().find("warmpath_prepare_duration_seconds_count 1\n"),
            std::string::npos);
}

TEST_F(ForesightTest, LeavesAloneWhatHasNoTokensHere) {
  const std::string body = Chat(12'000, 2'000'000, "another");
  director_.SetEncoder("m", QwenEncoder());
  director_.Foresee(prompt::Api::kChatCompletions, body);
  director_.Foresee(prompt::Api::kEmbeddings, body);
  director_.Foresee(prompt::Api::kChatCompletions, "no JSON");
  director_.Foresee(prompt::Api::kCompletions, R"({"prompt":[1,2)");
  EXPECT_EQ(Foreseen(), 0);
  EXPECT_TRUE(director_.Foresees(prompt::Api::kCompletions));
  EXPECT_FALSE(director_.Foresees(prompt::Api::kGenerate));
  director_.SetEncoderAbsent("gone");
  EXPECT_FALSE(director_.Foresees(prompt::Api::kCompletions));
  director_.Foresee(prompt::Api::kChatCompletions, Chat(12'000, 2'000'000));
  EXPECT_EQ(Foreseen(), 0);
}

TEST_F(ForesightTest, LooksAtGrowingBeginningsAndOnceMoreShortOfTheEnd) {
  constexpr size_t kKib = 1024;
  const std::string body = Chat(30'000, 3'000'000);
  Foresight foresight(director_, RunHere, prompt::Api::kChatCompletions, body.size());
  std::vector<size_t> looks;
  for (size_t size = kKib; size < body.size(); size += kKib) {
    if (size < foresight.next()) continue;
    looks.push_back(size);
    const double before = Foreseen();
    foresight.Look(std::string_view(body).substr(0, size));
    EXPECT_GT(Foreseen(), before);
  }
  ASSERT_GT(looks.size(), 4u);
  EXPECT_LT(looks.size(), 9u);
  EXPECT_EQ(looks.front(), 64 * kKib);
  EXPECT_EQ(looks[1], 128 * kKib);
  for (size_t i = 1; i + 1 < looks.size(); ++i) EXPECT_GE(looks[i], looks[i - 1] + 64 * kKib);
  EXPECT_GT(looks.back(), body.size() - 17 * kKib);
  EXPECT_GT(Foreseen(), static_cast<double>(body.size() - 44 * kKib));
}

TEST_F(ForesightTest, LooksLessOftenAtWhatIsKnown) {
  const std::string body = Chat(30'000, 5'000'000);
  const auto looks = [&] {
    Foresight foresight(director_, RunHere, prompt::Api::kChatCompletions, body.size());
    size_t count = 0;
    for (size_t size = 1000; size < body.size(); size += 1000) {
      if (size < foresight.next()) continue;
      foresight.Look(std::string_view(body).substr(0, size));
      ++count;
    }
    return count;
  };
  const size_t first = looks();
  const double foreseen = Foreseen();
  EXPECT_LT(looks(), first);
  EXPECT_EQ(Foreseen(), foreseen);
}

TEST_F(ForesightTest, TheWorkForLargeBodiesIsBounded) {
  Foresight foresight(director_, RunHere, prompt::Api::kCompletions, 0);
  const std::string body(size_t{8} << 20, '[');
  size_t looked_at = 0;
  for (size_t size = 0; size < body.size(); size += 10'000) {
    if (size < foresight.next()) continue;
    EXPECT_EQ(foresight.HeldAfter(size), std::min(size, size_t{4} << 20));
    looked_at += foresight.HeldAfter(size);
    foresight.Look(std::string_view(body).substr(0, size));
  }
  EXPECT_LT(looked_at, size_t{6 * 4} << 20);
  EXPECT_EQ(foresight.next(), SIZE_MAX);
}

TEST_F(ForesightTest, OneAtATimeAndNoneForABodyThatIsThere) {
  const std::string body = Chat(12'000, 4'000'000);
  std::vector<std::function<void()>> waiting;
  bool room = false;
  std::optional<Foresight> foresight;
  foresight.emplace(
      director_,
      [&](std::function<void()> work) {
        if (room) waiting.push_back(std::move(work));
        return room;
      },
      prompt::Api::kChatCompletions, 0);
  const std::string_view begun = body;
  foresight->Look(begun.substr(0, 70'000));
  EXPECT_EQ(waiting.size(), 0u);
  EXPECT_LT(foresight->next(), 90'000u);  // sooner than after a look
  room = true;
  foresight->Look(begun.substr(0, 90'000));
  EXPECT_EQ(waiting.size(), 1u);
  foresight->Look(begun);
  EXPECT_EQ(waiting.size(), 1u);
  waiting[0]();
  EXPECT_GT(Foreseen(), 60'000);
  EXPECT_LT(Foreseen(), 90'000);
  foresight->Look(begun);
  ASSERT_EQ(waiting.size(), 2u);
  const double before = Foreseen();
  foresight.reset();
  waiting[1]();
  EXPECT_EQ(Foreseen(), before);
}

}  // namespace
}  // namespace warmpath::routing
