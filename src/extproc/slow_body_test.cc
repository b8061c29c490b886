#include "extproc/slow_body.h"

#include <fmt/format.h>

#include "extproc/exchange_testing.h"
#include "net/testing.h"
#include "prompt/encoder.h"

namespace warmpath::extproc::testing {
namespace {

using net::testing::Eventually;
using std::chrono::milliseconds;

const std::string kForeseen = "warmpath_foreseen_text_bytes_total";

class SlowBodyTest : public ExchangeTest {
 protected:
  SlowBodyTest() {
    static const auto encoder = [] {
      auto tokenizer = prompt::Tokenizer::Load(WARMPATH_TOKENIZERS "/qwen3");
      EXPECT_TRUE(tokenizer);
      return std::make_shared<const prompt::Encoder>(*tokenizer, prompt::EncoderOptions{});
    }();
    director_.SetEncoder("", encoder);
  }
  // What it does there needs the Director.
  ~SlowBodyTest() override { pool_.Stop(); }

  // One that nobody has sent before.
  std::string NewBody() {
    static int number = 0;
    std::string text;
    while (text.size() < 600'000) text += fmt::format("and some word{} ", number++);
    return R"({"model":"m","prompt":")" + text + R"("})";
  }
  // From `at` on the next part, of the size Envoy sends.
  void SayPart() {
    const std::string_view part = std::string_view(body_).substr(at_, 16 << 10);
    at_ += part.size();
    Say(RequestBody(std::string(part), at_ == body_.size()));
  }
  void SayTo(size_t size) {
    while (at_ < size) SayPart();
  }

  std::string body_ = NewBody();
  size_t at_ = 0;
};

TEST_F(SlowBodyTest, IsTokenizedWhileItArrives) {
  Say(RequestHeaders(kPost));
  SayTo(80'000);
  clock_.Advance(milliseconds(25));
  // The pool's thread may not have come up yet.
  while (at_ < 500'000 && !Eventually([&] { return Value(kForeseen) > 0; }, milliseconds(100)))
    SayPart();
  EXPECT_GT(Value(kForeseen), 0);
  EXPECT_GT(shared().buffered.used(), at_ + 60'000);  // twice, as far as it was looked at
  SayTo(body_.size());
  EXPECT_EQ(shared().buffered.used(), body_.size());
  sink_->RunOffloaded();
  HearDecision();
  EXPECT_EQ(HearEcho(), body_);
  EXPECT_EQ(shared().buffered.used(), 0u);
}

TEST_F(SlowBodyTest, WhenItArrivesQuicklyNothingIsDoneBefore) {
  Say(RequestHeaders(kPost));
  SayTo(80'000);
  clock_.Advance(milliseconds(15));
  SayTo(body_.size());
  sink_->RunOffloaded();
  pool_.Stop();
  EXPECT_EQ(Value(kForeseen), 0);
}

TEST_F(SlowBodyTest, WhatIsDoneBeforeTakesNoMemoryFromBodies) {
  options_.max_buffered_bytes = body_.size();
  Say(RequestHeaders(kPost));
  SayTo(80'000);
  clock_.Advance(milliseconds(25));
  SayTo(body_.size());
  EXPECT_EQ(shared().buffered.used(), body_.size());
  sink_->RunOffloaded();
  HearDecision();
}

TEST_F(SlowBodyTest, OfAClientThatLeavesIsForgotten) {
  Say(RequestHeaders(kPost));
  SayTo(80'000);
  clock_.Advance(milliseconds(25));
  SayTo(200'000);
  exchange_->OnGone();
  EXPECT_EQ(shared().buffered.used(), 0u);
}

}  // namespace
}  // namespace warmpath::extproc::testing
