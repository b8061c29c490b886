#include "kv/replay.h"

#include <gtest/gtest.h>

#include "kv/testing.h"

namespace warmpath::kv {
namespace {

std::vector<std::string_view> Views(const std::vector<std::string>& frames) {
  return {frames.begin(), frames.end()};
}

TEST(Replay, RoundTripsLiveMessages) {
  const auto frames = LiveFrames("kv@a@m", 0x0102030405060708, "payload");
  EXPECT_EQ(frames[1], std::string("\1\2\3\4\5\6\7\10"));
  const auto message = ParseLiveMessage(Views(frames));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->topic, "kv@a@m");
  EXPECT_EQ(message->sequence, 0x0102030405060708u);
  EXPECT_EQ(message->payload, "payload");
  EXPECT_FALSE(ParseLiveMessage(std::vector<std::string_view>{"a", "12345678"}));
  EXPECT_FALSE(ParseLiveMessage(std::vector<std::string_view>{"a", "1234567", "b"}));
}

TEST(Replay, RoundTripsBothFramings) {
  for (const ReplayFraming framing : {ReplayFraming::kPlain, ReplayFraming::kWithTopic}) {
    const auto frames = ReplayBatchFrames(framing, "", 7, "x");
    const auto reply = ParseReplayReply(Views(frames));
    ASSERT_TRUE(reply);
    EXPECT_FALSE(reply->end);
    EXPECT_EQ(reply->framing, framing);
    EXPECT_EQ(reply->sequence, 7u);
    EXPECT_EQ(reply->payload, "x");
    const auto end_frames = ReplayEndFrames(framing);
    EXPECT_TRUE(ParseReplayReply(Views(end_frames))->end);
  }
}

TEST(Replay, ReadsRequestsAsLenientlyAsTheEngine) {
  const auto start = [](std::string_view bytes) {
    return ParseReplayRequest(std::vector<std::string_view>{"id", "", bytes});
  };
  EXPECT_EQ(start(SequenceBytes(9)), 9u);
  EXPECT_EQ(start(""), 0u);
  EXPECT_EQ(start("0"), 48u);
  EXPECT_EQ(start(std::string(8, '\0') + SequenceBytes(5)), 5u);
  EXPECT_EQ(start(std::string(16, '\1')), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(ParseReplayRequest(std::vector<std::string_view>{"id", "12345678"}), std::nullopt);
}

TEST(Replay, ReadsEveryRecordedReply) {
  for (const char* dir :
       {"vllm-0.32.0/bs16", "vllm-0.32.0/bs64", "vllm-0.23.0/bs32", "vllm-0.14.1/bs32"}) {
    const bool old = std::string_view(dir).substr(5, 4) != "0.32";
    int batches = 0;
    int ends = 0;
    for (const auto& line : testing::ReadJsonLines(std::string(WARMPATH_TESTDATA "/golden/") + dir +
                                                   "/replay.jsonl")) {
      if (codec::FindString(line, "socket") != "DEALER") continue;
      for (const auto& answer : codec::Find(line, "replies")->get_array()) {
        std::vector<std::string> frames;
        for (const auto& frame : codec::Find(answer, "frames")->get_array()) {
          frames.push_back(testing::FromHex(std::string_view(frame.get_string())));
        }
        const auto reply = ParseReplayReply(Views(frames));
        ASSERT_TRUE(reply) << dir << ": " << reply.error().message;
        EXPECT_EQ(reply->framing, old ? ReplayFraming::kPlain : ReplayFraming::kWithTopic);
        const auto again = reply->end ? ReplayEndFrames(reply->framing)
                                      : ReplayBatchFrames(reply->framing, reply->topic,
                                                          reply->sequence, reply->payload);
        EXPECT_EQ(again, frames);
        (reply->end ? ends : batches) += 1;
      }
    }
    EXPECT_GT(batches, 10) << dir;
    EXPECT_GT(ends, 0) << dir;
  }
}

}  // namespace
}  // namespace warmpath::kv
