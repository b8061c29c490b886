// The servers over real sockets, against a client that speaks HTTP/2 by hand.
#include "extproc/server.h"

#include <gtest/gtest.h>

#include <atomic>

#include "extproc/exchange_testing.h"
#include "health.pb.h"
#include "net/http2_testing.h"
#include "net/testing.h"

namespace warmpath::extproc {
namespace {

using namespace std::chrono_literals;
using namespace testing;  // NOLINT: of this module
using net::testing::Eventually;
using net::testing::GrpcFrame;

constexpr char kProcess[] = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

class Connection {
 public:
  explicit Connection(uint16_t port) : socket_(port) {}
  int32_t Start(const std::string& path, const std::string& messages, bool end) {
    return client_.Start(path, messages, end);
  }
  void Write(int32_t id, const pb::ProcessingRequest& message) {
    client_.Write(id, GrpcFrame(message.SerializeAsString()));
    socket_.Send(client_.Output());
  }
  void Reset(int32_t id) {
    client_.Reset(id);
    socket_.Send(client_.Output());
  }
  // Sends what there is, reads what came.
  void Turn() {
    socket_.Send(client_.Output());
    if (!socket_.ReadSome(1ms)) return;
    client_.Input(socket_.received());
    socket_.Forget();
  }
  // Reads until `condition`; false when nothing more comes.
  template <typename Condition>
  bool Until(Condition condition) {
    while (!condition()) {
      socket_.Send(client_.Output());
      if (!socket_.ReadSome()) return false;
      client_.Input(socket_.received());
      socket_.Forget();
    }
    socket_.Send(client_.Output());
    return true;
  }
  std::vector<pb::ProcessingResponse> Responses(int32_t id) {
    std::vector<pb::ProcessingResponse> all;
    for (const std::string& message : client_.call(id).messages()) {
      EXPECT_TRUE(all.emplace_back().ParseFromString(message));
    }
    return all;
  }
  // Waits for that many answers.
  std::vector<pb::ProcessingResponse> Await(int32_t id, size_t count) {
    EXPECT_TRUE(Until([&] { return client_.call(id).messages().size() >= count; }));
    return Responses(id);
  }
  net::testing::Http2Client::Call& call(int32_t id) { return client_.call(id); }

 private:
  net::testing::RawClient socket_;
  net::testing::Http2Client client_;
};

std::string Framed(const pb::ProcessingRequest& message) {
  return GrpcFrame(message.SerializeAsString());
}

class ServerTest : public ExchangeTest {
 protected:
  ~ServerTest() override {
    if (server_) server_->Stop(0s);
    loops_.Stop();
    pool_.Stop();
  }
  uint16_t Serve() {
    options_.listen = {"127.0.0.1", 0};
    options_.stream_metrics = true;
    options_.health_on_this_port = true;
    auto server = ExtProcServer::Create(loops_, options_,
                                        {director_, fleet_, pool_, metrics_, clock_,
                                         [] { return HealthInputs{.pool_synced = true}; }});
    EXPECT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    loops_.Start();
    return server_->address().port;
  }

  net::LoopGroup loops_{"extproc", 2};
  std::unique_ptr<ExtProcServer> server_;
};

TEST_F(ServerTest, MessagesUnderWayOnAllConnectionsAreBoundedLikeBodies) {
  options_.grpc.max_message_bytes = 100'000;
  options_.grpc.max_header_bytes = 4'000;
  options_.max_buffered_bytes = 10;
  const uint16_t port = Serve();
  // All but the last byte.
  const std::string part = GrpcFrame(std::string(60'000, 'x')).substr(0, 60'004);
  Connection one(port);
  Connection two(port);
  const int32_t first = one.Start(kProcess, part, false);
  const int32_t second = two.Start(kProcess, part, false);
  ASSERT_TRUE(Eventually([&] {
    one.Turn();
    two.Turn();
    return one.call(first).closed || two.call(second).closed;
  }));
  EXPECT_NE(one.call(first).closed, two.call(second).closed);
  const auto& refused = one.call(first).closed ? one.call(first) : two.call(second);
  EXPECT_EQ(refused.fields.at("grpc-status"), "8");
}

TEST_F(ServerTest, AnExchangeThatIsCompleteMayBeResetLikeEnvoyDoes) {
  Connection envoy(Serve());
  const int32_t id = envoy.Start(
      kProcess, Framed(RequestHeaders(kPost)) + Framed(RequestBody(kBody, true)), false);
  const auto decided = envoy.Await(id, 2);
  EXPECT_NE(HeaderOf(decided[0].request_headers().response().header_mutation(), kDestinationHeader),
            "");
  EXPECT_EQ(Streamed(decided[1].request_body()).body(), kBody);
  EXPECT_EQ(Value("llm_d_epp_extproc_streams_inflight"), 1);
  EXPECT_EQ(server_->connections(), 1u);
  envoy.Write(id, ResponseHeaders(kJsonAnswer));
  envoy.Write(id, ResponseBody("{}", true));
  EXPECT_EQ(Streamed(envoy.Await(id, 4)[3].response_body()).body(), "{}");
  envoy.Reset(id);
  EXPECT_TRUE(Eventually([&] { return Value("llm_d_epp_extproc_streams_inflight") == 0; }));
  EXPECT_EQ(Value("llm_d_epp_extproc_streams_total{code=\"OK\"}"), 1);
  EXPECT_EQ(Value("warmpath_extproc_aborts_total"), 0);
  EXPECT_EQ(director_.FindRecord("R1")->status, 200);
}

TEST_F(ServerTest, AResetBeforeTheEndReleasesWhatWasBooked) {
  Connection envoy(Serve());
  const int32_t id = envoy.Start(
      kProcess, Framed(RequestHeaders(kPost)) + Framed(RequestBody(kBody, true)), false);
  envoy.Await(id, 2);
  EXPECT_EQ(InFlight(), 1);
  envoy.Reset(id);
  EXPECT_TRUE(Eventually([&] { return InFlight() == 0; }));
  EXPECT_TRUE(Eventually([&] { return Value("warmpath_extproc_aborts_total") == 1; }));
}

TEST_F(ServerTest, ALargeBodyComesBackWholeFromThePool) {
  Connection envoy(Serve());
  const std::string body = R"({"model":"m","prompt":")" + std::string(5'000'000, 'x') + "\"}";
  std::string messages = Framed(RequestHeaders(kPost));
  for (size_t at = 0; at < body.size(); at += 60'000) {
    messages += Framed(RequestBody(body.substr(at, 60'000), false));
  }
  messages += Framed(RequestBody("", true));
  const int32_t id = envoy.Start(kProcess, messages, false);
  std::vector<pb::ProcessingResponse> responses;
  ASSERT_TRUE(envoy.Until([&] {
    if (envoy.call(id).body.size() < body.size()) return false;
    responses = envoy.Responses(id);
    return !responses.empty() && Streamed(responses.back().request_body()).end_of_stream();
  }));
  std::string echo;
  for (const auto& response : responses) echo += Streamed(response.request_body()).body();
  EXPECT_EQ(echo, body);
}

TEST_F(ServerTest, ARefusalEndsItsStream) {
  Connection envoy(Serve());
  const int32_t id =
      envoy.Start(kProcess, Framed(RequestHeaders(kPost)) + Framed(RequestBody("", true)), false);
  ASSERT_TRUE(envoy.Until([&] { return envoy.call(id).ended; }));
  EXPECT_EQ(envoy.Responses(id).at(0).immediate_response().status().code(), 400);
  EXPECT_EQ(envoy.call(id).field("grpc-status"), "0");
}

TEST_F(ServerTest, AbuseEndsOneStreamAndNotItsNeighbours) {
  Connection envoy(Serve());
  const int32_t good = envoy.Start(kProcess, Framed(RequestHeaders(kPost)), false);
  const int32_t bad = envoy.Start(kProcess, Framed(ResponseHeaders(kJsonAnswer)), false);
  ASSERT_TRUE(envoy.Until([&] { return envoy.call(bad).ended; }));
  EXPECT_EQ(envoy.call(bad).field("grpc-status"), "3");
  envoy.Write(good, RequestBody(kBody, true));
  EXPECT_EQ(envoy.Await(good, 2).size(), 2u);
}

TEST_F(ServerTest, HealthIsAnsweredHereToo) {
  Connection envoy(Serve());
  const int32_t check = envoy.Start("/grpc.health.v1.Health/Check", GrpcFrame(""), true);
  const int32_t watch = envoy.Start("/grpc.health.v1.Health/Watch", GrpcFrame(""), true);
  ASSERT_TRUE(envoy.Until([&] { return envoy.call(check).ended && envoy.call(watch).ended; }));
  grpc::health::v1::HealthCheckResponse response;
  ASSERT_TRUE(response.ParseFromString(envoy.call(check).messages().at(0)));
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  EXPECT_EQ(envoy.call(watch).field("grpc-status"), "12");
}

TEST(HealthServerTest, AnswersOnAPortOfItsOwn) {
  net::Loop loop("health");
  std::atomic<bool> draining = false;
  auto server = HealthServer::Create(loop, {"127.0.0.1", 0}, [&draining] {
    return HealthInputs{.pool_synced = true, .draining = draining};
  });
  ASSERT_TRUE(server) << server.error().message;
  loop.Start();
  Connection probe((*server)->address().port);
  const auto ask = [&probe](const std::string& service) {
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    const int32_t id =
        probe.Start("/grpc.health.v1.Health/Check", GrpcFrame(request.SerializeAsString()), true);
    EXPECT_TRUE(probe.Until([&] { return probe.call(id).ended; }));
    grpc::health::v1::HealthCheckResponse response;
    EXPECT_TRUE(response.ParseFromString(probe.call(id).messages().at(0)));
    return response.status();
  };
  EXPECT_EQ(ask("readiness"), grpc::health::v1::HealthCheckResponse::SERVING);
  draining = true;
  EXPECT_EQ(ask("readiness"), grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(ask("liveness"), grpc::health::v1::HealthCheckResponse::SERVING);
  (*server)->Stop();
  loop.Stop();
}

}  // namespace
}  // namespace warmpath::extproc
