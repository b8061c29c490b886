#include "net/http2_session.h"

#include <gtest/gtest.h>

#include "net/http2_session_testing.h"

namespace warmpath::net {
namespace {

using testing::GrpcFrame;
using testing::Http2Client;
using testing::Http2SessionTest;

TEST_F(Http2SessionTest, AnswersAUnaryCall) {
  const int32_t id = client_.Start("/t.T/Echo", GrpcFrame("hello"), true, {{"x-key", "v"}});
  ASSERT_TRUE(Exchange());
  const auto& call = client_.call(id);
  EXPECT_EQ(call.messages(), std::vector<std::string>{"hello"});
  EXPECT_EQ(call.field(":status"), "200");
  EXPECT_EQ(call.field("content-type"), "application/grpc");
  EXPECT_EQ(call.field("grpc-status"), "0");
  EXPECT_TRUE(call.ended);
  EXPECT_FALSE(call.was_reset);
  EXPECT_EQ(log_.gone, 0);
  EXPECT_EQ(log_.destroyed, 1);
  EXPECT_EQ(session().streams(), 0u);
}

TEST_F(Http2SessionTest, ReadsBytesOneAtATime) {
  const std::string large(70'000, 'z');
  const int32_t id =
      client_.Start("/t.T/Echo", GrpcFrame("one") + GrpcFrame("") + GrpcFrame(large), true);
  ASSERT_TRUE(Exchange(1));
  EXPECT_EQ(client_.call(id).messages(), (std::vector<std::string>{"one", "", large}));
  EXPECT_EQ(client_.call(id).field("grpc-status"), "0");
}

TEST_F(Http2SessionTest, MessagesEndBeforeTheStreamDoes) {
  const int32_t id = client_.Start("/t.T/Echo", GrpcFrame("first"), false);
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(client_.call(id).messages(), std::vector<std::string>{"first"});
  const std::string second = GrpcFrame("second");
  client_.Write(id, second.substr(0, 3));
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(log_.messages, 1);
  client_.Write(id, second.substr(3));
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(client_.call(id).messages(), (std::vector<std::string>{"first", "second"}));
  EXPECT_EQ(log_.half_closes, 0);
  client_.Write(id, "", true);
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(log_.half_closes, 1);
  EXPECT_EQ(client_.call(id).field("grpc-status"), "0");
}

TEST_F(Http2SessionTest, StatusMessagesArePercentEncoded) {
  const int32_t id = client_.Start("/t.T/Fail", GrpcFrame("x"), false);
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(client_.call(id).field("grpc-status"), "5");
  EXPECT_EQ(client_.call(id).field("grpc-message"), "nothing at 100 %25%0A");
  // The caller had not ended: it is told that nothing more is read.
  EXPECT_TRUE(client_.call(id).was_reset);
  EXPECT_EQ(client_.call(id).reset_code, static_cast<uint32_t>(NGHTTP2_NO_ERROR));
  EXPECT_EQ(log_.gone, 0);
  EXPECT_EQ(log_.destroyed, 1);
}

TEST_F(Http2SessionTest, RequestsThatAreNotGrpcAreRefusedOneByOne) {
  options_.max_header_bytes = 10'000;
  struct Row {
    std::string path, method, content_type;
    Http2Client::Fields more;
    std::string status, grpc_status;
  };
  const std::vector<Row> rows = {
      {"/t.T/Unknown", "POST", "application/grpc", {}, "200", "12"},
      {"/t.T/Echo", "GET", "application/grpc", {}, "405", "13"},
      {"/t.T/Echo", "POST", "application/json", {}, "415", "13"},
      {"/t.T/Echo", "POST", "application/grpcweb", {}, "415", "13"},
      {"/t.T/Echo", "POST", "application/grpc", {{"grpc-encoding", "gzip"}}, "200", "12"},
      {"/t.T/Echo", "POST", "application/grpc+proto", {{"grpc-encoding", "identity"}}, "200", "0"},
      {"/t.T/Echo",
       "POST",
       "application/grpc",
       {{"x-big", std::string(8'000, 'x')}, {"x-more", std::string(3'000, 'y')}},
       "200",
       "8"},
  };
  for (const Row& row : rows) {
    const int32_t id =
        client_.Start(row.path, GrpcFrame("m"), true, row.more, row.method, row.content_type);
    ASSERT_TRUE(Exchange());
    EXPECT_EQ(client_.call(id).field(":status"), row.status) << row.path << row.method;
    EXPECT_EQ(client_.call(id).field("grpc-status"), row.grpc_status) << row.path << row.method;
  }
  EXPECT_EQ(log_.begun, 1);
}

TEST_F(Http2SessionTest, FaultyMessagesEndTheirStreamOnly) {
  options_.max_message_bytes = 1'000;
  const int32_t good = client_.Start("/t.T/Echo", GrpcFrame("a"), false);
  std::string compressed = GrpcFrame("zzz");
  compressed[0] = 1;
  const int32_t flagged = client_.Start("/t.T/Echo", compressed, true);
  const int32_t large = client_.Start("/t.T/Echo", GrpcFrame(std::string(1'001, 'x')), false);
  const int32_t cut = client_.Start("/t.T/Echo", GrpcFrame("cut short").substr(0, 8), true);
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(client_.call(flagged).field("grpc-status"), "12");
  EXPECT_EQ(client_.call(large).field("grpc-status"), "8");
  EXPECT_EQ(client_.call(cut).field("grpc-status"), "13");
  EXPECT_EQ(log_.gone, 3);
  client_.Write(good, GrpcFrame("b"), true);
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(client_.call(good).messages(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(client_.call(good).field("grpc-status"), "0");
}

TEST_F(Http2SessionTest, ResetBeforeCompletionTellsTheHandler) {
  const int32_t id = client_.Start("/t.T/Echo", GrpcFrame("m"), false);
  ASSERT_TRUE(Exchange());
  client_.Reset(id);
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(log_.gone, 1);
  EXPECT_EQ(log_.destroyed, 1);
}

TEST_F(Http2SessionTest, AStreamThatIsNotReadGetsNoWindow) {
  options_.stream_window = 100'000;
  options_.max_message_bytes = 1 << 20;
  const int32_t id = client_.Start("/t.T/Hold", "", false);
  ASSERT_TRUE(Exchange());
  log_.streams[0]->SetReading(false);
  std::string messages;
  for (int i = 0; i < 300; ++i) messages += GrpcFrame(std::string(995, 'x'));
  client_.Write(id, messages);
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(log_.messages, 100);
  // Others on the connection go on.
  const int32_t other = client_.Start("/t.T/Echo", GrpcFrame(std::string(500'000, 'y')), true);
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(client_.call(other).field("grpc-status"), "0");
  log_.streams[0]->SetReading(true);
  EXPECT_GT(work_, 0);
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(log_.messages, 302 - 1);
}

TEST_F(Http2SessionTest, AnswersWaitForThePeersWindowAndTellWhenTheyDrain) {
  Http2Client slow(/*updates_windows=*/false);
  std::string out;
  const int32_t id = slow.Start("/t.T/Hold", GrpcFrame("m"), false);
  ASSERT_TRUE(session().Receive(slow.Output()));
  session().Produce(out, SIZE_MAX);
  ASSERT_TRUE(slow.Input(out));
  ASSERT_EQ(log_.streams.size(), 1u);
  GrpcStream& stream = *log_.streams[0];
  const std::string message(1'000, 'x');
  for (int i = 0; i < 200; ++i) stream.Send(message);
  EXPECT_EQ(stream.queued_bytes(), 200u * 1'005);
  out.clear();
  session().Produce(out, 30'000);
  EXPECT_LT(out.size(), 30'000u + 16'384 + 9);
  session().Produce(out, SIZE_MAX);
  EXPECT_EQ(stream.queued_bytes(), 200u * 1'005 - 65'535);
  EXPECT_EQ(log_.drains, 0);
  ASSERT_TRUE(slow.Input(out));
  slow.GiveWindow(id, 100'000);
  slow.GiveWindow(0, 100'000);
  ASSERT_TRUE(session().Receive(slow.Output()));
  out.clear();
  session().Produce(out, SIZE_MAX);
  EXPECT_EQ(log_.drains, 1);
  EXPECT_LT(stream.queued_bytes(), options_.low_water_bytes);
  stream.Finish(GrpcStatus::kOk);
  ASSERT_TRUE(slow.Input(std::exchange(out, {})));
  slow.GiveWindow(id, 100'000);
  slow.GiveWindow(0, 100'000);
  ASSERT_TRUE(session().Receive(slow.Output()));
  session().Produce(out, SIZE_MAX);
  ASSERT_TRUE(slow.Input(out));
  EXPECT_EQ(slow.call(id).messages().size(), 200u);
  EXPECT_EQ(slow.call(id).field("grpc-status"), "0");
}

TEST_F(Http2SessionTest, AnAnswerThatIsNeverTakenIsGivenUp) {
  Http2Client slow(/*updates_windows=*/false);
  std::string out;
  const int32_t id = slow.Start("/t.T/Hold", GrpcFrame("m"), true);
  ASSERT_TRUE(session().Receive(slow.Output()));
  log_.streams[0]->Send(std::string(100'000, 'x'));
  log_.streams[0]->Finish(GrpcStatus::kOk);
  session().Produce(out, SIZE_MAX);
  ASSERT_TRUE(session().next_deadline());
  clock_.Advance(options_.write_timeout + std::chrono::seconds(1));
  session().Tick();
  session().Produce(out, SIZE_MAX);
  ASSERT_TRUE(slow.Input(out));
  EXPECT_TRUE(slow.call(id).was_reset);
  EXPECT_EQ(session().streams(), 0u);
  EXPECT_EQ(log_.gone, 0);
}

TEST_F(Http2SessionTest, TimeoutsOfCallersAreKept) {
  const int32_t id = client_.Start("/t.T/Hold", GrpcFrame("m"), false, {{"grpc-timeout", "1500m"}});
  ASSERT_TRUE(Exchange());
  ASSERT_EQ(session().next_deadline(), clock_.Now() + std::chrono::milliseconds(1'500));
  clock_.Advance(std::chrono::seconds(2));
  session().Tick();
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(client_.call(id).field("grpc-status"), "4");
  EXPECT_EQ(log_.gone, 1);
  EXPECT_FALSE(session().next_deadline());
}

TEST_F(Http2SessionTest, DrainLetsStreamsEndAndRefusesNewOnes) {
  const int32_t open = client_.Start("/t.T/Echo", GrpcFrame("a"), false);
  ASSERT_TRUE(Exchange());
  session().Drain();
  std::string out;
  session().Produce(out, SIZE_MAX);
  // Begun before the notice arrived: served.
  const int32_t late = client_.Start("/t.T/Echo", GrpcFrame("b"), true);
  const std::string crossing = client_.Output();
  ASSERT_TRUE(client_.Input(out));
  EXPECT_EQ(client_.goaways, 1);
  EXPECT_EQ(client_.goaway_last_id, INT32_MAX);
  ASSERT_TRUE(session().Receive(crossing));
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(client_.goaways, 2);
  EXPECT_EQ(client_.goaway_last_id, late);
  EXPECT_EQ(client_.call(late).field("grpc-status"), "0");
  EXPECT_FALSE(session().finished());
  client_.Write(open, GrpcFrame("c"), true);
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(client_.call(open).field("grpc-status"), "0");
  EXPECT_TRUE(session().finished());
}

TEST_F(Http2SessionTest, DrainEndsWithoutAnAnswerToItsPing) {
  ASSERT_TRUE(Exchange());
  session().Drain();
  std::string out;
  session().Produce(out, SIZE_MAX);
  EXPECT_FALSE(session().finished());
  clock_.Advance(std::chrono::seconds(2));
  session().Tick();
  out.clear();
  session().Produce(out, SIZE_MAX);
  EXPECT_TRUE(session().finished());
}

TEST_F(Http2SessionTest, CloseEndsStreamsWithQueuedAnswers) {
  Http2Client slow(/*updates_windows=*/false);
  slow.Start("/t.T/Echo", GrpcFrame(std::string(100'000, 'x')), false);
  slow.Start("/t.T/Done", GrpcFrame("m"), false);
  std::string out;
  ASSERT_TRUE(session().Receive(slow.Output()));
  session().Produce(out, 20'000);  // stops inside an answer
  session().Close();
  EXPECT_EQ(log_.gone, 1);
  EXPECT_EQ(log_.destroyed, 2);
  session().Produce(out, SIZE_MAX);
  EXPECT_TRUE(session().finished());
}

TEST_F(Http2SessionTest, EndingTwoHandlersInOneTurnIsOrdered) {
  // A handler that finishes another stream from inside its own message.
  const int32_t held = client_.Start("/t.T/Hold", GrpcFrame("m"), false);
  ASSERT_TRUE(Exchange());
  GrpcStream* other = log_.streams[0];
  other->Send("pushed");
  other->Finish(GrpcStatus::kUnavailable, "over");
  other->Finish(GrpcStatus::kOk);  // no effect
  other->Send("late");
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(client_.call(held).messages(), std::vector<std::string>{"pushed"});
  EXPECT_EQ(client_.call(held).field("grpc-status"), "14");
}

}  // namespace
}  // namespace warmpath::net
