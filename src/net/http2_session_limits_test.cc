#include <gtest/gtest.h>

#include "net/http2_session_testing.h"

// What an Http2Session bears from a peer that wastes its memory or its time.

namespace warmpath::net {
namespace {

using testing::GrpcFrame;
using testing::Http2Client;
using testing::Http2SessionTest;

TEST_F(Http2SessionTest, IncompleteMessagesAreBoundedTogether) {
  options_.max_held_bytes = 50'000;
  const std::string part = GrpcFrame(std::string(40'000, 'x')).substr(0, 30'000);
  const int32_t first = client_.Start("/t.T/Echo", part, false);
  ASSERT_TRUE(Exchange());
  const int32_t second = client_.Start("/t.T/Echo", part, false);
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(client_.call(second).field("grpc-status"), "8");
  client_.Reset(first);
  ASSERT_TRUE(Exchange());
  const int32_t third = client_.Start("/t.T/Echo", part, false);
  ASSERT_TRUE(Exchange());
  EXPECT_FALSE(client_.call(third).ended);
}

TEST_F(Http2SessionTest, IncompleteMessagesOfAllSessionsAreBoundedTogether) {
  options_.max_held_bytes = 50'000;
  const std::string part = GrpcFrame(std::string(40'000, 'x')).substr(0, 30'000);
  Http2Client elsewhere;
  elsewhere.Start("/t.T/Hold", part, false);
  {
    Http2Session other(*this, options_, service_, held_);
    std::string out;
    other.Produce(out, SIZE_MAX);
    ASSERT_TRUE(elsewhere.Input(out));
    ASSERT_TRUE(other.Receive(elsewhere.Output()));
    ASSERT_GT(held_, 29'000u);
    const int32_t refused = client_.Start("/t.T/Echo", part, false);
    ASSERT_TRUE(Exchange());
    EXPECT_EQ(client_.call(refused).field("grpc-status"), "8");
  }
  EXPECT_EQ(held_, 0u);
  const int32_t taken = client_.Start("/t.T/Echo", part, false);
  ASSERT_TRUE(Exchange());
  EXPECT_FALSE(client_.call(taken).ended);
}

TEST_F(Http2SessionTest, HeadersOfOpenStreamsAreNotHeld) {
  options_.max_held_bytes = 10'000;
  const Http2Client::Fields large = {{"x-large", std::string(3'000, 'x')}};
  for (int i = 0; i < 50; ++i) {
    client_.Start("/t.T/Hold", "", false, large);
    ASSERT_TRUE(Exchange());
  }
  EXPECT_EQ(held_, 0u);
  EXPECT_EQ(log_.begun, 50);
}

TEST_F(Http2SessionTest, ResetsAfterCompletionAreNormalEnds) {
  for (int i = 0; i < 20'000; ++i) {
    const int32_t id = client_.Start("/t.T/Done", GrpcFrame("m"), false);
    ASSERT_TRUE(Exchange());
    ASSERT_EQ(client_.call(id).messages().size(), 1u) << i;
    client_.Reset(id, NGHTTP2_INTERNAL_ERROR);
    ASSERT_TRUE(Exchange()) << i;
    client_.Forget(id);
  }
  EXPECT_EQ(log_.messages, 20'000);
  EXPECT_EQ(log_.gone, 0);
  EXPECT_EQ(log_.destroyed, 20'000);
  EXPECT_EQ(session().streams(), 0u);
  EXPECT_FALSE(session().finished());
}

TEST_F(Http2SessionTest, ManyIncompleteResetsEndTheConnection) {
  int served = 0;
  for (int i = 0; i < 2'000; ++i) {
    const int32_t id = client_.Start("/t.T/Hold", GrpcFrame("m"), false);
    if (!Exchange()) break;
    client_.Reset(id, NGHTTP2_CANCEL);
    if (!Exchange()) break;
    ++served;
  }
  EXPECT_EQ(served, 1'000);
  EXPECT_EQ(client_.goaway_code, static_cast<uint32_t>(NGHTTP2_ENHANCE_YOUR_CALM));
  EXPECT_TRUE(session().finished());
  session().Close();
  EXPECT_EQ(log_.gone, log_.begun);
}

TEST_F(Http2SessionTest, IncompleteResetsAtAModestRateAreFine) {
  for (int i = 0; i < 3'000; ++i) {
    const int32_t id = client_.Start("/t.T/Hold", GrpcFrame("m"), false);
    ASSERT_TRUE(Exchange());
    client_.Reset(id, NGHTTP2_CANCEL);
    ASSERT_TRUE(Exchange()) << i;
    clock_.Advance(std::chrono::milliseconds(21));
  }
  EXPECT_EQ(log_.gone, 3'000);
}

TEST_F(Http2SessionTest, ResetsOfUnansweredRefusalsCount) {
  // Refused at their headers, and reset before the refusal could leave.
  std::string wave;
  ASSERT_TRUE(Exchange());
  Status last;
  for (int i = 0; i < 2'000 && last; ++i) {
    const int32_t id = client_.Start("/t.T/Unknown", "", false);
    wave = client_.Output();
    client_.Reset(id, NGHTTP2_CANCEL);
    wave += client_.Output();
    last = session().Receive(wave);
  }
  EXPECT_FALSE(last);
}

TEST_F(Http2SessionTest, StreamsResetBecauseOfThePeersFaultsCount) {
  ASSERT_TRUE(Exchange());
  std::string out;
  Status last;
  int faults = 0;
  // A window beyond 2^31-1 is a stream error: the server resets, the peer need not.
  for (; faults < 2'000 && last; ++faults) {
    const int32_t id = client_.Start("/t.T/Hold", GrpcFrame("m"), false);
    std::string bytes = client_.Output();
    const char update[] = {
        0, 0, 4, 8, 0, 0, 0, static_cast<char>(id >> 8), static_cast<char>(id), 0x7f, -1, -1, -1};
    bytes.append(update, sizeof update);
    last = session().Receive(bytes);
    out.clear();
    session().Produce(out, SIZE_MAX);
    client_.Input(out);
    if (session().finished()) break;
  }
  EXPECT_LT(faults, 1'100);
  EXPECT_GE(faults, 999);
  EXPECT_EQ(client_.goaway_code, static_cast<uint32_t>(NGHTTP2_ENHANCE_YOUR_CALM));
}

TEST_F(Http2SessionTest, GarbagePrefaceIsRefused) {
  EXPECT_FALSE(session().Receive("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(session().finished());
}

TEST_F(Http2SessionTest, FloodsOfPingsEndTheConnection) {
  ASSERT_TRUE(Exchange());
  // Unanswered ones at once, for a peer that does not read.
  for (int i = 0; i < 2'000; ++i) client_.Ping();
  EXPECT_FALSE(session().Receive(client_.Output()));
  std::string out;
  session().Produce(out, SIZE_MAX);
  client_.Input(out);
  EXPECT_EQ(client_.goaway_code, static_cast<uint32_t>(NGHTTP2_ENHANCE_YOUR_CALM));
}

TEST_F(Http2SessionTest, FloodsOfAnsweredPingsEndTheConnectionToo) {
  ASSERT_TRUE(Exchange());
  int rounds = 0;
  while (rounds < 2'000) {
    for (int i = 0; i < 100; ++i) client_.Ping();
    if (!Exchange()) break;
    ++rounds;
  }
  EXPECT_LT(rounds, 600);
}

// How many CONTINUATION frames of a header block are taken before the connection ends.
int ContinuationsTaken(Http2Session& session, std::string_view block, size_t step) {
  const char begin[] = {0, 0, 1, 1, 0, 0, 0, 0, 1, static_cast<char>(0x83)};
  if (!session.Receive({begin, sizeof begin})) return -1;
  std::string frame("\0\0\0\x09\0\0\0\0\x01", 9);
  frame[2] = static_cast<char>(block.size());
  frame += block;
  for (int taken = 0; taken < 1'000; ++taken) {
    for (size_t at = 0; at < frame.size(); at += step) {
      if (!session.Receive(std::string_view(frame).substr(at, step))) return taken;
    }
  }
  return 1'000;
}

TEST_F(Http2SessionTest, FloodsOfContinuationsEndTheConnection) {
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(ContinuationsTaken(session(), "", SIZE_MAX), 8);
  EXPECT_EQ(log_.begun, 0);
  std::string out;
  session().Produce(out, SIZE_MAX);
  client_.Input(out);
  EXPECT_EQ(client_.goaway_code, static_cast<uint32_t>(NGHTTP2_ENHANCE_YOUR_CALM));
}

TEST_F(Http2SessionTest, ContinuationsCountTheSameHoweverTheyAreCut) {
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(ContinuationsTaken(session(), "", 1), 8);
}

TEST_F(Http2SessionTest, FloodsOfContinuationsOfARefusedBlockEndTheConnection) {
  ASSERT_TRUE(Exchange());
  // The scheme twice: the block is refused, and what follows of it only skipped.
  const int taken = ContinuationsTaken(session(), "\x86", SIZE_MAX);
  EXPECT_GT(taken, 0);
  EXPECT_LT(taken, 100);
  EXPECT_EQ(log_.begun, 0);
}

TEST_F(Http2SessionTest, HeadersThatExpandWithoutBoundEndTheConnection) {
  ASSERT_TRUE(Exchange());
  // One field of 4,000 bytes enters the table; then it is named again and again, a byte each.
  std::string block("\x83\x86\x84\x40", 4);
  block += std::string("\x04", 1) + "bomb";
  block += std::string("\x7f\xa1\x1e", 3) + std::string(4'000, 'b');
  block += std::string(12'000, '\xbe');
  std::string bytes;
  bytes += static_cast<char>(block.size() >> 16);
  bytes += static_cast<char>(block.size() >> 8);
  bytes += static_cast<char>(block.size());
  bytes += std::string("\x01\x04\x00\x00\x00\x01", 6) + block;
  const Status received = session().Receive(bytes);
  EXPECT_FALSE(received);
  EXPECT_EQ(log_.begun, 0);
}

}  // namespace
}  // namespace warmpath::net
