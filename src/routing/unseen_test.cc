#include "routing/unseen.h"

#include <gtest/gtest.h>

namespace warmpath::routing {
namespace {

using namespace std::chrono_literals;

// One engine, 1; the clock starts long after its last scrape.
class Unseen : public ::testing::Test {
 protected:
  Unseen() { endpoint_->id = 1; }

  void Send(int count, uint64_t uncached = 100, std::optional<uint64_t> max_tokens = {}) {
    for (int i = 0; i < count; ++i) {
      UnseenAnswer answer;
      answer.endpoint = 1;
      answer.sent = now_;
      answer.uncached_tokens = uncached;
      answer.max_tokens = max_tokens;
      answer.ticket = ledger_.Book(1, 0, static_cast<int64_t>(uncached), 200);
      EXPECT_TRUE(answers_.Add(std::move(answer)).empty());
    }
  }
  void Scrape(double running, double waiting) {
    endpoint_->load.running = running;
    endpoint_->load.waiting = waiting;
    endpoint_->load.at = now_;
  }
  size_t Ended() {
    fleet::Snapshot snapshot;
    if (endpoint_) snapshot.endpoints = {endpoint_};
    return answers_.Ended(snapshot, now_).size();
  }
  int64_t Requests() const { return ledger_.Load(1).requests; }

  TimePoint now_ = TimePoint(1000s);
  std::shared_ptr<fleet::Endpoint> endpoint_ = std::make_shared<fleet::Endpoint>();
  fleet::InflightLedger ledger_;
  UnseenAnswers answers_;
};

TEST_F(Unseen, TheEnginesFiguresSayHowManyAreStillUnderWay) {
  Send(10);
  now_ += 1s;
  Scrape(7, 2);
  EXPECT_EQ(Ended(), 1u);
  EXPECT_EQ(Requests(), 9);
  EXPECT_EQ(Ended(), 0u) << "one scrape says it once";
  now_ += 1s;
  Scrape(0, 0);
  EXPECT_EQ(Ended(), 9u);
  EXPECT_EQ(Requests(), 0);
}

TEST_F(Unseen, AScrapeSaysNothingOfRequestsThatMayNotHaveArrived) {
  Send(3);
  now_ += 200ms;
  Scrape(0, 0);
  EXPECT_EQ(Ended(), 0u);
  now_ += 200ms;
  Scrape(0, 0);
  EXPECT_EQ(Ended(), 3u);
}

TEST_F(Unseen, PrefillsEndAfterTheirTimeUnlessTheEngineKeepsThemWaiting) {
  Send(4, 10'000);
  now_ += 900ms;
  Scrape(2, 2);
  EXPECT_EQ(Ended(), 0u);
  EXPECT_EQ(ledger_.Load(1).prefill_requests, 4);
  now_ += 200ms;
  EXPECT_EQ(Ended(), 0u);
  EXPECT_EQ(ledger_.Load(1).prefill_requests, 2);
  EXPECT_EQ(ledger_.Load(1).requests, 4);
}

TEST_F(Unseen, WithoutFiguresALimitTellsThenWhatWasLearned) {
  Send(1, 100, 100);
  now_ += 2s;
  EXPECT_EQ(Ended(), 0u);
  now_ += 100ms;
  EXPECT_EQ(Ended(), 1u);

  Send(8);
  now_ += 6s;
  Scrape(0, 0);
  EXPECT_EQ(Ended(), 8u);
  now_ += 60s;
  Send(1, 100, 100);
  now_ += 5900ms;
  EXPECT_EQ(Ended(), 0u);
  now_ += 100ms;
  EXPECT_EQ(Ended(), 1u);
}

TEST_F(Unseen, NothingStaysForEver) {
  Send(2);
  for (int i = 0; i < 600; ++i) {
    Scrape(2, 0);
    EXPECT_EQ(Ended(), 0u);
    now_ += 1s;
  }
  EXPECT_EQ(Ended(), 2u);
  EXPECT_EQ(answers_.size(), 0u);
}

TEST_F(Unseen, AnEngineThatFailsOrLeavesTakesItsRequestsAlong) {
  Send(2);
  endpoint_->health = fleet::Health::kUnhealthy;
  EXPECT_EQ(Ended(), 2u);
  endpoint_->health = fleet::Health::kHealthy;
  Send(3);
  ledger_.Forget(1);
  endpoint_ = nullptr;
  EXPECT_EQ(Ended(), 3u);
  EXPECT_EQ(answers_.size(), 0u);
  EXPECT_EQ(Requests(), 0);
}

TEST_F(Unseen, TooManyGiveWay) {
  for (size_t i = 0; i < kMaxUnseen; ++i) {
    UnseenAnswer answer;
    answer.endpoint = 1;
    ASSERT_TRUE(answers_.Add(std::move(answer)).empty());
  }
  UnseenAnswer answer;
  answer.endpoint = 2;
  EXPECT_EQ(answers_.Add(std::move(answer)).size(), 1u);
  EXPECT_EQ(answers_.size(), kMaxUnseen);
}

}  // namespace
}  // namespace warmpath::routing
