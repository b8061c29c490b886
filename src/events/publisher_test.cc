#include "events/publisher.h"

#include <gtest/gtest.h>

#include <optional>

#include "kv/keys.h"

namespace warmpath::events {
namespace {

using namespace std::chrono_literals;

constexpr uint32_t kBlock = 2;

// One block of the chain of engine process `process`: batch n stores block n.
std::string Batch(uint32_t n, uint32_t process = 0) {
  kv::BlockStored e;
  e.hashes = {1000 * process + n};
  if (n > 0) e.parent = 1000 * process + n - 1;
  e.tokens = {process, n};
  e.block_size = kBlock;
  kv::EventBatch batch;
  batch.ts = process + n / 100.0;
  batch.events = {e};
  return kv::EncodeBatch(batch);
}

class PublisherTest : public ::testing::Test {
 protected:
  void Make(bool replay) {
    Publisher::Options options;
    options.holder = {1, 0};
    options.address = "tcp://127.0.0.1:1";
    options.replay_offered = replay;
    publisher_ = std::make_unique<Publisher>(options, index_, watch_, metrics_.ForPublisher("a"),
                                             metrics_, [this](uint64_t first) { asked_ = first; });
  }
  void Live(uint32_t n, uint32_t process = 0) { publisher_->OnLive(n, Batch(n, process), now_); }
  // Answers the replay asked for with batches [max(asked, oldest), until) of `process`. Stops where
  // another replay is asked for.
  void Answer(uint32_t until, uint32_t process = 0, uint32_t oldest = 0) {
    ASSERT_TRUE(asked_);
    const auto first =
        std::max(static_cast<uint32_t>(*std::exchange(asked_, std::nullopt)), oldest);
    for (uint32_t n = first; n < until; ++n) {
      publisher_->OnReplayed(n, Batch(n, process), now_);
      if (asked_) return;
    }
    publisher_->OnReplayEnd(now_);
  }
  uint32_t Resident(uint32_t process = 0) {
    std::vector<kv::TokenId> tokens;
    for (uint32_t n = 0; n < 50; ++n) tokens.insert(tokens.end(), {process, n});
    const auto matches = index_.Match(kv::PrefixKeys(kv::RootKey(kBlock, "", ""), tokens, kBlock));
    return matches.empty() ? 0 : matches[0].blocks;
  }
  PublisherStatus Status() { return publisher_->status(now_, 10s); }

  Registry registry_;
  EventsMetrics metrics_{registry_};
  index::KvIndex index_{uint64_t{64} << 20};
  std::shared_ptr<EndpointWatch> watch_ = std::make_shared<EndpointWatch>(1, "a");
  TimePoint now_ = TimePoint(1000s);
  std::optional<uint64_t> asked_;
  std::unique_ptr<Publisher> publisher_;
};

TEST_F(PublisherTest, AppliesInOrderAndDropsRepeats) {
  Make(false);
  for (const uint32_t n : {0u, 1u, 1u, 0u, 2u}) Live(n);
  EXPECT_EQ(Resident(), 3u);
  EXPECT_EQ(Status().received, 3u);
  EXPECT_EQ(Status().last_seq, 2);
  EXPECT_EQ(Status().gaps, 0u);
  EXPECT_EQ(Status().format, "map");
  EXPECT_EQ(watch_->block_size(), kBlock);
}

TEST_F(PublisherTest, AGapWithoutReplayForgetsAndGoesOn) {
  Make(false);
  Live(0);
  Live(1);
  Live(3);
  EXPECT_EQ(Status().gaps, 1u);
  EXPECT_EQ(Resident(), 0u);
  EXPECT_EQ(index_.ResidentBlocks({1, 0}), 0u);  // its parent went too: held as an orphan
  publisher_->OnTick(now_ + 11s);
  EXPECT_EQ(Status().errors, 1u);
  Live(2);  // late: given up
  EXPECT_EQ(Status().restarts, 0u);
  EXPECT_EQ(Status().last_seq, 3);
}

TEST_F(PublisherTest, AnEngineWhoseSocketAndApiAreGoneIsForgotten) {
  for (const bool replay : {false, true}) {
    Make(replay);
    watch_->NoteHealth(false);
    publisher_->OnConnected(now_);
    if (replay) Answer(0);
    Live(0);
    Live(1);
    publisher_->OnDisconnected();
    publisher_->OnTick(now_);
    EXPECT_EQ(Resident(), 2u) << "the connection alone may have been lost";
    publisher_->OnConnected(now_);
    if (replay) Answer(2);
    watch_->NoteHealth(true);
    publisher_->OnTick(now_);
    EXPECT_EQ(Resident(), 2u) << "overloaded, but still publishing";
    publisher_->OnDisconnected();
    publisher_->OnTick(now_);
    publisher_->OnTick(now_);
    EXPECT_EQ(index_.ResidentBlocks({1, 0}), 0u);
    EXPECT_EQ(Status().restarts, 1u);
    EXPECT_EQ(Status().last_seq, -1);
    // Its successor's first batch passes unseen; the next ones tell what they can.
    publisher_->OnConnected(now_);
    if (replay) Answer(1, 7);
    Live(1, 7);
    EXPECT_EQ(Resident(7), replay ? 2u : 0u);
    EXPECT_EQ(Status().restarts, 1u);
    publisher_->OnGone();
  }
}

TEST_F(PublisherTest, AGapIsFilledByReplay) {
  Make(true);
  publisher_->OnConnected(now_);
  Answer(0);
  Live(0);
  Live(1);
  Live(4);
  EXPECT_EQ(asked_, 1u);  // the last one again, to see that it is the same process
  Live(5);
  Answer(6);
  EXPECT_EQ(Resident(), 6u);
  EXPECT_EQ(Status().gaps, 1u);
  EXPECT_EQ(Status().replayed, 4u);
  EXPECT_EQ(Status().restarts, 0u);
  EXPECT_FALSE(publisher_->replaying());
}

TEST_F(PublisherTest, ALateStartLearnsTheWholeHistory) {
  Make(true);
  publisher_->OnConnected(now_);
  EXPECT_EQ(asked_, 0u);
  Live(5);
  Answer(6);
  EXPECT_EQ(Resident(), 6u);
  EXPECT_EQ(Status().gaps, 0u);
}

TEST_F(PublisherTest, ALateStartWithoutReplayTakesWhatComes) {
  Make(false);
  publisher_->OnConnected(now_);
  Live(5);
  EXPECT_EQ(Status().received, 1u);
  EXPECT_EQ(Status().gaps, 0u);
}

TEST_F(PublisherTest, ARestartIsRecognisedWithoutReplay) {
  Make(false);
  for (uint32_t n = 0; n < 4; ++n) Live(n);
  publisher_->OnDisconnected();
  publisher_->OnConnected(now_);
  Live(0, 1);
  EXPECT_EQ(Status().restarts, 1u);
  EXPECT_EQ(Resident(0), 0u);
  EXPECT_EQ(Resident(1), 1u);
}

TEST_F(PublisherTest, ARestartIsRecognisedByReplayAtReconnection) {
  Make(true);
  publisher_->OnConnected(now_);
  Answer(0);
  for (uint32_t n = 0; n < 4; ++n) Live(n);
  publisher_->OnDisconnected();
  EXPECT_FALSE(Status().connected);
  publisher_->OnConnected(now_);
  EXPECT_EQ(asked_, 3u);
  Answer(2, 1);  // the new process has two batches: nothing from 3 on
  EXPECT_EQ(Status().restarts, 1u);
  EXPECT_EQ(Resident(0), 0u);
  EXPECT_EQ(asked_, 0u);
  Answer(2, 1);
  EXPECT_EQ(Resident(1), 2u);
}

TEST_F(PublisherTest, ARestartThatOvertookTheOldSequenceIsRecognised) {
  Make(true);
  publisher_->OnConnected(now_);
  Answer(0);
  for (uint32_t n = 0; n < 4; ++n) Live(n);
  publisher_->OnDisconnected();
  publisher_->OnConnected(now_);
  Answer(9, 1);  // has a batch 3, with other bytes
  EXPECT_EQ(Status().restarts, 1u);
  Answer(9, 1);
  EXPECT_EQ(Resident(0), 0u);
  EXPECT_EQ(Resident(1), 9u);
}

TEST_F(PublisherTest, AReconnectionToTheSameProcessKeepsEverything) {
  Make(true);
  publisher_->OnConnected(now_);
  Answer(0);
  for (uint32_t n = 0; n < 4; ++n) Live(n);
  publisher_->OnDisconnected();
  publisher_->OnConnected(now_);
  Answer(6);
  EXPECT_EQ(Status().restarts, 0u);
  EXPECT_EQ(Resident(), 6u);
}

TEST_F(PublisherTest, HistoryThatStartsLaterThanAskedForgets) {
  Make(true);
  publisher_->OnConnected(now_);
  Answer(0);
  Live(0);
  Live(1);
  Live(9);
  Answer(10, 0, 7);
  EXPECT_EQ(Resident(), 0u);
  EXPECT_EQ(Status().last_seq, 9);
  EXPECT_FALSE(publisher_->replaying());
}

TEST_F(PublisherTest, AFailedReplayIsNotTriedAgainForAWhile) {
  Make(true);
  publisher_->OnConnected(now_);
  Live(0);
  publisher_->OnReplayFailed(now_);
  asked_.reset();
  EXPECT_EQ(Resident(), 1u);
  Live(3);
  EXPECT_FALSE(asked_);
  EXPECT_EQ(Resident(), 0u);
  now_ += 31s;
  Live(6);
  EXPECT_TRUE(asked_);
}

TEST_F(PublisherTest, KeepsABoundedNumberOfLiveMessagesDuringAReplay) {
  Make(true);
  publisher_->OnConnected(now_);
  for (uint32_t n = 0; n < 5000; ++n) Live(n);
  EXPECT_EQ(publisher_->kept_messages(), 4096u);
  Answer(3);
  EXPECT_EQ(Status().last_seq, 4095);
  Live(5000);
  Answer(5001);
  EXPECT_EQ(Status().last_seq, 5000);
  EXPECT_EQ(Resident(), 50u);
}

TEST_F(PublisherTest, AnUnreadableBatchForgetsAndGoesOn) {
  Make(false);
  Live(0);
  publisher_->OnLive(1, "garbage", now_);
  EXPECT_EQ(Resident(), 0u);
  EXPECT_EQ(Status().errors, 1u);
  EXPECT_EQ(Status().last_seq, 1);
  publisher_->OnMalformed();
  EXPECT_EQ(Status().errors, 2u);
}

TEST_F(PublisherTest, ASequenceBeyondReasonIsMalformed) {
  Make(true);
  publisher_->OnLive(~uint64_t{0}, Batch(0), now_);
  EXPECT_EQ(Status().last_seq, -1);
  publisher_->OnConnected(now_);
  publisher_->OnReplayed(~uint64_t{0} >> 1, Batch(0), now_);
  EXPECT_EQ(Status().last_seq, -1);
  EXPECT_EQ(Status().errors, 2u);
  Answer(2);
  EXPECT_EQ(Status().last_seq, 1);
}

TEST_F(PublisherTest, LeavesNothingBehind) {
  Make(false);
  Live(0);
  publisher_->OnGone();
  EXPECT_EQ(Resident(), 0u);
}

TEST_F(PublisherTest, AnEngineWithTrafficAndNoStoresIsSilent) {
  Make(false);
  watch_->NoteTraffic(10, now_);  // no full block, whatever its size
  EXPECT_FALSE(watch_->SilenceBegins(now_ + 20s, 10s));
  watch_->NoteTraffic(300, now_);
  EXPECT_FALSE(watch_->SilenceBegins(now_ + 9s, 10s));
  EXPECT_TRUE(watch_->SilenceBegins(now_ + 10s, 10s));
  EXPECT_FALSE(watch_->SilenceBegins(now_ + 11s, 10s));  // said once
  now_ += 12s;
  EXPECT_TRUE(Status().silent);
  Live(0);
  EXPECT_FALSE(Status().silent);
}

}  // namespace
}  // namespace warmpath::events
