#include "net/grpc_server.h"

#include <gtest/gtest.h>

#include <future>

#include "net/http2_testing.h"
#include "net/testing.h"

namespace warmpath::net {
namespace {

using testing::Eventually;
using testing::GrpcFrame;
using testing::Http2Client;
using testing::RawClient;
using testing::ServiceLog;
using testing::TestService;

// An Http2Client on a socket, perhaps behind TLS.
class Peer {
 public:
  explicit Peer(uint16_t port, int receive_buffer = 0, TlsContext* tls = nullptr)
      : socket_(port, receive_buffer),
        tls_(tls != nullptr ? tls->NewSession("127.0.0.1") : nullptr) {}
  Http2Client& h2() { return h2_; }
  RawClient& socket() { return socket_; }
  TlsSession* tls() { return tls_.get(); }

  bool Push() {
    const std::string plain = h2_.Output();
    if (!tls_) return socket_.Send(plain);
    if (!plain.empty() && !tls_->Write(plain)) return false;
    std::string bytes;
    tls_->TakeOutput(bytes);
    return socket_.Send(bytes);
  }
  // Sends what there is, reads once; false at the end of the connection.
  bool Turn(Duration wait = std::chrono::seconds(10)) {
    Push();
    if (!socket_.ReadSome(wait)) return false;
    std::string plain;
    if (tls_) {
      if (!tls_->Feed(socket_.received(), plain)) return false;
    } else {
      plain = socket_.received();
    }
    socket_.Forget();
    return h2_.Input(plain);
  }
  template <typename Condition>
  bool Until(Condition condition) {
    while (!condition()) {
      if (!Turn()) return condition();
    }
    return true;
  }
  bool UntilClosed() {
    while (Turn()) {
    }
    return true;
  }

 private:
  RawClient socket_;
  std::unique_ptr<TlsSession> tls_;
  Http2Client h2_;
};

class GrpcServerTest : public ::testing::Test {
 protected:
  ~GrpcServerTest() override {
    if (server_) server_->Stop(Duration::zero());
    server_.reset();
    loop_.Stop();
  }
  void Serve() {
    auto server = GrpcServer::Listen(loop_, {"127.0.0.1", 0}, options_, TestService(log_));
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    loop_.Start();
  }
  uint16_t port() const { return server_->address().port; }
  template <typename Read>
  auto OnLoop(Read read) {
    decltype(read()) value{};
    loop_.Run([&] { value = read(); });
    return value;
  }

  Loop loop_{"grpc"};
  ServiceLog log_;
  GrpcServerOptions options_;
  std::unique_ptr<GrpcServer> server_;
};

TEST_F(GrpcServerTest, AnswersOverASocket) {
  Serve();
  Peer peer(port());
  const int32_t id = peer.h2().Start("/t.T/Echo", GrpcFrame("hello"), true);
  ASSERT_TRUE(peer.Until([&] { return peer.h2().call(id).closed; }));
  EXPECT_EQ(peer.h2().call(id).messages(), std::vector<std::string>{"hello"});
  EXPECT_EQ(peer.h2().call(id).field("grpc-status"), "0");
  EXPECT_TRUE(Eventually([&] { return server_->streams() == 0; }));
  EXPECT_EQ(server_->connections(), 1u);
}

TEST_F(GrpcServerTest, TwentyThousandExchangesEndedByResetsShareOneConnection) {
  Serve();
  Peer peer(port());
  constexpr int kAtOnce = 50;
  int served = 0;
  for (int round = 0; round < 20'000 / kAtOnce; ++round) {
    std::vector<int32_t> ids;
    for (int i = 0; i < kAtOnce; ++i) {
      ids.push_back(peer.h2().Start("/t.T/Done", GrpcFrame("m"), false));
    }
    for (const int32_t id : ids) {
      ASSERT_TRUE(peer.Until([&] { return !peer.h2().call(id).body.empty(); })) << served;
      ++served;
      peer.h2().Reset(id, NGHTTP2_INTERNAL_ERROR);
    }
    ASSERT_TRUE(peer.Push());
    for (const int32_t id : ids) peer.h2().Forget(id);
  }
  EXPECT_EQ(served, 20'000);
  EXPECT_TRUE(Eventually([&] { return server_->streams() == 0; }));
  EXPECT_EQ(server_->connections(), 1u);
  EXPECT_EQ(peer.h2().goaways, 0);
  EXPECT_EQ(OnLoop([&] { return log_.gone; }), 0);
}

TEST_F(GrpcServerTest, TwoThousandIncompleteResetsEndTheConnection) {
  Serve();
  Peer peer(port());
  for (int i = 0; i < 2'000; ++i) {
    const int32_t id = peer.h2().Start("/t.T/Hold", GrpcFrame("m"), false);
    if (!peer.Push()) break;
    peer.h2().Reset(id, NGHTTP2_CANCEL);
    if (!peer.Push()) break;
  }
  EXPECT_TRUE(peer.UntilClosed());
  EXPECT_EQ(peer.h2().goaway_code, static_cast<uint32_t>(NGHTTP2_ENHANCE_YOUR_CALM));
  EXPECT_TRUE(Eventually([&] { return server_->streams() == 0; }));
}

TEST_F(GrpcServerTest, APeerThatDoesNotReadHoldsBoundedMemory) {
  options_.write_timeout = std::chrono::seconds(30);
  Serve();
  Peer peer(port(), 4'096);
  // A window without bounds: only the socket holds the answers back.
  peer.h2().GiveWindow(0, 1 << 30);
  const int32_t id = peer.h2().Start("/t.T/Hold", GrpcFrame("m"), false);
  ASSERT_TRUE(peer.Push());
  peer.h2().GiveWindow(id, 1 << 30);
  ASSERT_TRUE(peer.Push());
  ASSERT_TRUE(Eventually([&] { return OnLoop([&] { return log_.messages; }) == 1; }));
  const std::string message(100'000, 'x');
  size_t sent = 0;
  // The service's own rule: nothing more above a bound.
  const auto fill = [&] {
    return OnLoop([&] {
      GrpcStream& stream = *log_.streams[0];
      while (stream.queued_bytes() < (1 << 20)) {
        stream.Send(message);
        ++sent;
      }
      return stream.queued_bytes();
    });
  };
  ASSERT_TRUE(Eventually([&] {
    const size_t queued = fill();
    return queued >= (1 << 20) && sent > 30;
  }));
  loop_.Run([&] { log_.streams[0]->SetReading(false); });
  // While the socket's own buffers filled, some may have come already.
  const int before = OnLoop([&] { return log_.drains; });
  ASSERT_TRUE(peer.Until([&] { return peer.h2().call(id).body.size() == sent * 100'005; }));
  EXPECT_TRUE(Eventually([&] { return OnLoop([&] { return log_.drains; }) == before + 1; }));
  EXPECT_EQ(OnLoop([&] { return log_.streams[0]->queued_bytes(); }), 0u);
}

TEST_F(GrpcServerTest, APeerThatNeverReadsIsDisconnected) {
  options_.write_timeout = std::chrono::milliseconds(200);
  Serve();
  Peer peer(port(), 4'096);
  peer.h2().GiveWindow(0, 1 << 30);
  const int32_t id = peer.h2().Start("/t.T/Hold", GrpcFrame("m"), false);
  ASSERT_TRUE(peer.Push());
  peer.h2().GiveWindow(id, 1 << 30);
  ASSERT_TRUE(peer.Push());
  ASSERT_TRUE(Eventually([&] { return OnLoop([&] { return log_.messages; }) == 1; }));
  loop_.Run([&] { log_.streams[0]->Send(std::string(20 << 20, 'x')); });
  EXPECT_TRUE(Eventually([&] { return server_->connections() == 0; }));
  EXPECT_EQ(OnLoop([&] { return log_.gone; }), 1);
}

TEST_F(GrpcServerTest, TimeoutsOfCallersAreKeptWhileThePeerDoesNotRead) {
  Serve();
  Peer peer(port(), 4'096);
  peer.h2().GiveWindow(0, 1 << 30);
  const int32_t id = peer.h2().Start("/t.T/Hold", GrpcFrame("m"), false);
  ASSERT_TRUE(peer.Push());
  peer.h2().GiveWindow(id, 1 << 30);
  ASSERT_TRUE(peer.Push());
  ASSERT_TRUE(Eventually([&] { return OnLoop([&] { return log_.messages; }) == 1; }));
  loop_.Run([&] { log_.streams[0]->Send(std::string(20 << 20, 'x')); });
  for (const char* timeout : {"100m", "300m", "500m"}) {
    peer.h2().Start("/t.T/Hold", GrpcFrame("m"), false, {{"grpc-timeout", timeout}});
  }
  ASSERT_TRUE(peer.Push());
  EXPECT_TRUE(Eventually([&] { return OnLoop([&] { return log_.gone; }) == 3; }));
}

TEST_F(GrpcServerTest, OversizeMessagesEndTheirStream) {
  options_.max_message_bytes = 1'000;
  Serve();
  Peer peer(port());
  const int32_t id = peer.h2().Start("/t.T/Echo", GrpcFrame(std::string(200'000, 'x')), true);
  ASSERT_TRUE(peer.Until([&] { return peer.h2().call(id).closed; }));
  EXPECT_EQ(peer.h2().call(id).field("grpc-status"), "8");
  const int32_t next = peer.h2().Start("/t.T/Echo", GrpcFrame("x"), true);
  ASSERT_TRUE(peer.Until([&] { return peer.h2().call(next).closed; }));
  EXPECT_EQ(peer.h2().call(next).field("grpc-status"), "0");
}

TEST_F(GrpcServerTest, GarbageIsDisconnected) {
  Serve();
  RawClient client(port());
  client.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(client.ReadToEnd());
}

TEST_F(GrpcServerTest, SilentConnectionsAreClosed) {
  options_.handshake_timeout = std::chrono::milliseconds(100);
  Serve();
  RawClient client(port());
  EXPECT_TRUE(client.ReadToEnd());
  EXPECT_TRUE(Eventually([&] { return server_->connections() == 0; }));
}

TEST_F(GrpcServerTest, IdleConnectionsArePingedAndDeadOnesClosed) {
  options_.ping_interval = std::chrono::milliseconds(100);
  Serve();
  Peer alive(port());
  Peer dead(port());
  ASSERT_TRUE(alive.Push());
  ASSERT_TRUE(dead.Push());
  ASSERT_TRUE(alive.Until([&] { return alive.h2().pings >= 5; }));
  EXPECT_TRUE(Eventually([&] { return alive.Turn() && server_->connections() == 1; }));
}

TEST_F(GrpcServerTest, ConnectionsOverTheLimitAreClosedAtOnce) {
  options_.max_connections = 1;
  Serve();
  Peer first(port());
  const int32_t id = first.h2().Start("/t.T/Hold", GrpcFrame("m"), false);
  ASSERT_TRUE(first.Push());
  ASSERT_TRUE(Eventually([&] { return server_->streams() == 1; }));
  RawClient second(port());
  EXPECT_TRUE(second.ReadToEnd());
  EXPECT_FALSE(first.h2().call(id).closed);
}

TEST_F(GrpcServerTest, LostConnectionsTellTheirHandlers) {
  Serve();
  {
    Peer peer(port());
    peer.h2().Start("/t.T/Hold", GrpcFrame("m"), false);
    peer.h2().Start("/t.T/Done", GrpcFrame("m"), false);
    ASSERT_TRUE(peer.Push());
    ASSERT_TRUE(Eventually([&] { return OnLoop([&] { return log_.messages; }) == 2; }));
    peer.socket().Reset();
  }
  EXPECT_TRUE(Eventually([&] { return server_->connections() == 0; }));
  EXPECT_EQ(OnLoop([&] { return log_.gone; }), 1);
  EXPECT_EQ(OnLoop([&] { return log_.destroyed; }), 2);
}

TEST_F(GrpcServerTest, DrainAsksPeersToGoAndAcceptsNewOnes) {
  Serve();
  Peer peer(port());
  const int32_t id = peer.h2().Start("/t.T/Echo", GrpcFrame("a"), false);
  ASSERT_TRUE(peer.Until([&] { return !peer.h2().call(id).body.empty(); }));
  server_->Drain();
  ASSERT_TRUE(peer.Until([&] { return peer.h2().goaways == 2; }));
  Peer late(port());
  const int32_t health = late.h2().Start("/t.T/Echo", GrpcFrame("up?"), true);
  ASSERT_TRUE(late.Until([&] { return late.h2().call(health).closed; }));
  EXPECT_EQ(late.h2().call(health).field("grpc-status"), "0");
  peer.h2().Write(id, GrpcFrame("b"), true);
  ASSERT_TRUE(peer.Until([&] { return peer.h2().call(id).closed; }));
  EXPECT_EQ(peer.h2().call(id).messages().size(), 2u);
  EXPECT_TRUE(peer.UntilClosed());
}

TEST_F(GrpcServerTest, StopWaitsForStreamsUnderWay) {
  Serve();
  Peer peer(port());
  const int32_t id = peer.h2().Start("/t.T/Echo", GrpcFrame("a"), false);
  ASSERT_TRUE(peer.Until([&] { return !peer.h2().call(id).body.empty(); }));
  auto stopped = std::async(std::launch::async, [&] { server_->Stop(std::chrono::seconds(20)); });
  ASSERT_TRUE(peer.Until([&] { return peer.h2().goaways >= 1; }));
  peer.h2().Write(id, "", true);
  EXPECT_TRUE(peer.Until([&] { return peer.h2().call(id).closed; }));
  EXPECT_EQ(peer.h2().call(id).field("grpc-status"), "0");
  stopped.get();
  EXPECT_TRUE(peer.UntilClosed());
  EXPECT_EQ(server_->connections(), 0u);
}

TEST_F(GrpcServerTest, StopEndsWhatDoesNotEnd) {
  Serve();
  Peer peer(port());
  peer.h2().Start("/t.T/Hold", GrpcFrame("a"), false);
  ASSERT_TRUE(peer.Push());
  ASSERT_TRUE(Eventually([&] { return server_->streams() == 1; }));
  server_->Stop(std::chrono::milliseconds(50));
  EXPECT_TRUE(peer.UntilClosed());
  EXPECT_EQ(server_->streams(), 0u);
  EXPECT_EQ(OnLoop([&] { return log_.gone; }), 1);
  server_->Stop(Duration::zero());
}

TEST_F(GrpcServerTest, ServesBehindTls) {
  auto server_tls = TlsContext::Server({.alpn = {"h2"}});
  ASSERT_TRUE(server_tls) << server_tls.error().message;
  options_.tls = *server_tls;
  Serve();
  auto client_tls = TlsContext::Client({.verify = false, .alpn = {"h2"}});
  ASSERT_TRUE(client_tls);
  Peer peer(port(), 0, client_tls->get());
  const std::string large(300'000, 'x');
  const int32_t id = peer.h2().Start("/t.T/Echo", GrpcFrame("hello") + GrpcFrame(large), true);
  ASSERT_TRUE(peer.Until([&] { return peer.h2().call(id).closed; }));
  EXPECT_EQ(peer.h2().call(id).messages(), (std::vector<std::string>{"hello", large}));
  EXPECT_EQ(peer.h2().call(id).field("grpc-status"), "0");
  EXPECT_EQ(peer.tls()->protocol(), "h2");
  server_->Stop(Duration::zero());
  EXPECT_TRUE(peer.UntilClosed());
  EXPECT_GE(peer.h2().goaways, 1);
}

TEST_F(GrpcServerTest, PlaintextToATlsPortIsDisconnected) {
  auto server_tls = TlsContext::Server({.alpn = {"h2"}});
  ASSERT_TRUE(server_tls);
  options_.tls = *server_tls;
  Serve();
  Peer peer(port());
  peer.h2().Start("/t.T/Echo", GrpcFrame("m"), true);
  peer.Push();
  EXPECT_TRUE(peer.socket().ReadToEnd());
}

}  // namespace
}  // namespace warmpath::net
