#include "sidecar/sidecar.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "net/testing.h"
#include "net/tls.h"

namespace warmpath::sidecar {
namespace {

using net::testing::Eventually;
using net::testing::RawClient;
using Exchange = std::shared_ptr<net::HttpExchange>;

constexpr std::string_view kGet = "GET /health?full=1 HTTP/1.1\r\nHost: pod:8000\r\n\r\n";

class SidecarTest : public ::testing::Test {
 protected:
  ~SidecarTest() override {
    if (sidecar_) sidecar_->Stop(Duration::zero());
    sidecar_.reset();
  }

  static std::unique_ptr<net::HttpServer> Listen(net::Loop& loop, net::HttpServer::Handler handler,
                                                 net::HttpServerOptions options = {}) {
    options.stream_bodies = true;
    auto server =
        net::HttpServer::Listen(loop, {"127.0.0.1", 0}, std::move(options), std::move(handler));
    EXPECT_TRUE(server);
    return server ? std::move(*server) : nullptr;
  }
  void StartEngine(net::HttpServer::Handler handler, net::HttpServerOptions options = {}) {
    engine_ = Listen(engine_loop_, std::move(handler), std::move(options));
    engine_loop_.Start();
  }
  // Answers with what it got, content as it comes.
  void StartEcho(net::HttpServerOptions options = {}) {
    StartEngine(
        [this](Exchange exchange) {
          exchange->OnClose([this] { ++aborted_; });
          const net::HttpRequest& request = exchange->request();
          std::string head = request.method + " " + request.target + "\n";
          for (const auto& [name, value] : request.headers)
            head.append(name).append(": ").append(value).append("\n");
          exchange->Begin(200, {{"Content-Type", "text/plain"}, {"Keep-Alive", "timeout=5"}});
          exchange->Write(head);
          if (!exchange->has_content()) {
            exchange->End();
            return;
          }
          exchange->OnDrain([exchange] { exchange->ResumeBody(); });
          exchange->ReadBody(
              [this, exchange](std::string_view bytes) {
                uploaded_ += bytes.size();
                if (exchange->Write(bytes) > exchange->high_water()) exchange->PauseBody();
              },
              [exchange] { exchange->End(); });
        },
        std::move(options));
  }
  void StartSidecar(SidecarOptions options = {}) {
    options.host = "127.0.0.1";
    options.port = 0;
    if (engine_) options.engine_port = engine_->port();
    auto sidecar = Sidecar::Create(loops_, std::move(options));
    ASSERT_TRUE(sidecar) << sidecar.error().message;
    sidecar_ = std::move(*sidecar);
    loops_.Start();
    port_ = sidecar_->addresses().front().port;
  }
  // The whole conversation over a connection that ends.
  std::string Talk(const std::string& bytes) {
    RawClient client(port_);
    client.Send(bytes);
    EXPECT_TRUE(client.ReadToEnd());
    return client.received();
  }

  net::LoopGroup loops_{"sidecar", 2};
  net::Loop engine_loop_{"engine"};
  std::unique_ptr<net::HttpServer> engine_;
  std::unique_ptr<Sidecar> sidecar_;
  uint16_t port_ = 0;
  std::atomic<int> aborted_{0};
  std::atomic<size_t> uploaded_{0};
};

TEST_F(SidecarTest, EveryMethodAndPathPassesThrough) {
  StartEcho();
  StartSidecar();
  const std::string answer = Talk(
      "PATCH /any/path?x=%20y HTTP/1.1\r\nHost: pod:8000\r\nX-Request-Id: 7\r\n"
      "Authorization: Bearer key\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nContent-Length: 4\r\n"
      "\r\nbody");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_NE(answer.find("PATCH /any/path?x=%20y\n"), std::string::npos);
  EXPECT_NE(answer.find("Host: pod:8000\n"), std::string::npos);
  EXPECT_NE(answer.find("X-Request-Id: 7\n"), std::string::npos);
  EXPECT_NE(answer.find("Authorization: Bearer key\n"), std::string::npos);
  EXPECT_NE(answer.find("Content-Length: 4\n"), std::string::npos);
  EXPECT_NE(answer.find("body"), std::string::npos);
  EXPECT_EQ(answer.find("X-Hop"), std::string::npos);
  EXPECT_EQ(answer.find("Keep-Alive"), std::string::npos);
}

TEST_F(SidecarTest, ChunkedUploadsReachTheEngineAsTheyCome) {
  StartEcho();
  StartSidecar();
  RawClient client(port_);
  client.Send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
  ASSERT_TRUE(client.ReadUntil("first"));  // before the upload has ended
  EXPECT_NE(client.received().find("Transfer-Encoding: chunked\n"), std::string::npos);
  client.Send("6\r\nsecond\r\n0\r\n\r\n");
  EXPECT_TRUE(client.ReadToEnd());
  EXPECT_NE(client.received().find("second"), std::string::npos);
  EXPECT_TRUE(client.received().ends_with("0\r\n\r\n"));
}

TEST_F(SidecarTest, EventsArriveOneByOne) {
  std::mutex mutex;
  Exchange stream;
  StartEngine([&](Exchange exchange) {
    exchange->Begin(200, {{"Content-Type", "text/event-stream"}});
    exchange->Write("data: 1\n\n");
    const std::scoped_lock lock(mutex);
    stream = exchange;
  });
  StartSidecar();
  RawClient client(port_);
  client.Send(kGet);
  ASSERT_TRUE(client.ReadUntil("data: 1\n\n"));
  EXPECT_NE(client.received().find("Content-Type: text/event-stream"), std::string::npos);
  EXPECT_EQ(sidecar_->in_flight(), 1u);
  engine_loop_.Run([&] { stream->Write("data: 2\n\n"); });
  ASSERT_TRUE(client.ReadUntil("data: 2\n\n"));
  engine_loop_.Run([&] {
    stream->Write("data: [DONE]\n\n");
    stream->End();
    stream.reset();
  });
  ASSERT_TRUE(client.ReadUntil("0\r\n\r\n"));
  EXPECT_TRUE(Eventually([&] { return sidecar_->in_flight() == 0; }));
  // The connection is good for more.
  client.Forget();
  client.Send(kGet);
  EXPECT_TRUE(client.ReadUntil("data: 1"));
  engine_loop_.Run([&] { stream.reset(); });
}

TEST_F(SidecarTest, AnswersWithoutContentStayWithout) {
  StartEngine([](Exchange exchange) {
    const std::string_view path = exchange->request().path();
    if (exchange->request().method == "HEAD") {
      exchange->Respond(200, {{"Content-Length", "1234"}}, "");
    } else {
      exchange->Respond(path == "/204" ? 204 : 304, {{"ETag", "\"a\""}}, "");
    }
  });
  StartSidecar();
  RawClient client(port_);
  client.Send(
      "HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET /204 HTTP/1.1\r\nHost: x\r\n\r\n"
      "GET /304 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(client.ReadToEnd());
  EXPECT_EQ(client.received(),
            "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
            "HTTP/1.1 204 No Content\r\nETag: \"a\"\r\n\r\n"
            "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nConnection: close\r\n\r\n");
}

TEST_F(SidecarTest, PipelinedRequestsAreAnsweredInOrder) {
  StartEcho();
  StartSidecar();
  std::string all;
  for (int i = 0; i < 20; ++i) {
    const std::string last = i == 19 ? "Connection: close\r\n" : "";
    all += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: x\r\n" + last + "\r\n";
  }
  const std::string answers = Talk(all);
  size_t at = 0;
  for (int i = 0; i < 20; ++i) {
    at = answers.find("GET /" + std::to_string(i) + "\n", at);
    ASSERT_NE(at, std::string::npos) << i;
  }
}

TEST_F(SidecarTest, HugeBodiesTravelBothWaysInBoundedMemory) {
  StartEcho();
  StartSidecar();
  constexpr size_t kSize = 48 << 20;
  RawClient client(port_);
  std::atomic<size_t> sent{0};
  std::thread sender([&] {
    client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(kSize) +
                "\r\n\r\n");
    const std::string piece(64 << 10, 'z');
    while (sent < kSize && client.Send(piece)) sent += piece.size();
  });
  // Nobody reads the echo: sooner or later nothing more is taken, long before the end. What the
  // kernel's buffers hold on five sockets is all there is.
  size_t before = 0;
  EXPECT_TRUE(Eventually([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return sent > 0 && before == std::exchange(before, sent.load());
  }));
  EXPECT_LT(sent, kSize / 2);
  size_t received = 0;
  while (client.ReadSome(std::chrono::seconds(10), 1 << 20)) {
    received += client.received().size();
    client.Forget();
  }
  sender.join();
  EXPECT_EQ(sent, kSize);
  EXPECT_EQ(uploaded_, kSize);
  EXPECT_GT(received, kSize);
}

TEST_F(SidecarTest, AnEarlyAnswerReachesAClientThatIsStillSending) {
  StartEngine([](Exchange exchange) { exchange->Respond(413, {}, "too large"); });
  StartSidecar();
  RawClient client(port_);
  client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nsome");
  EXPECT_TRUE(client.ReadToEnd());
  EXPECT_TRUE(client.received().starts_with("HTTP/1.1 413"));
  EXPECT_TRUE(client.received().ends_with("too large"));
}

TEST_F(SidecarTest, AClientThatLeavesAbortsTheEnginesRequest) {
  StartEcho();
  StartSidecar();
  {
    RawClient client(port_);
    client.Send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    ASSERT_TRUE(client.ReadUntil("ab"));
  }
  EXPECT_TRUE(Eventually([&] { return aborted_ == 1; }));
  EXPECT_TRUE(Eventually([&] { return sidecar_->in_flight() == 0; }));
}

TEST_F(SidecarTest, AClientThatLeavesBeforeTheAnswerAbortsTheEnginesRequest) {
  std::atomic<bool> asked{false};
  StartEngine([&](Exchange exchange) {
    exchange->OnClose([this, exchange] { ++aborted_; });
    asked = true;
  });
  StartSidecar();
  {
    RawClient client(port_);
    client.Send(kGet);
    ASSERT_TRUE(Eventually([&] { return asked.load(); }));
  }
  EXPECT_TRUE(Eventually([&] { return aborted_ == 1; }));
}

TEST_F(SidecarTest, AnAnswerBrokenOffIsSeenAsBroken) {
  StartEngine([](Exchange exchange) {
    exchange->Begin(200, {});
    exchange->Write("data: 1\n\n");
    exchange->OnDrain([] {});
    exchange->loop().Post([exchange] { exchange->loop().Post([exchange] { exchange->Abort(); }); });
  });
  StartSidecar();
  RawClient client(port_);
  client.Send(kGet);
  EXPECT_TRUE(client.ReadToEnd());
  EXPECT_FALSE(client.received().ends_with("0\r\n\r\n"));
}

TEST_F(SidecarTest, AnEngineThatBreaksBeforeItsAnswerIs502) {
  StartEngine([](Exchange exchange) { exchange->Abort(); });
  StartSidecar();
  RawClient client(port_);
  client.Send(kGet);
  ASSERT_TRUE(client.ReadUntil("engine_failed"));
  EXPECT_TRUE(client.received().starts_with("HTTP/1.1 502"));
}

TEST_F(SidecarTest, AnEngineThatIsNotThereIs503AndNamesWhatToCheck) {
  StartEcho();
  engine_->Stop(Duration::zero());  // its port refuses from now on
  StartSidecar();
  RawClient client(port_);
  client.Send(kGet);
  ASSERT_TRUE(client.ReadUntil("}}"));
  const std::string& answer = client.received();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 503")) << answer;
  EXPECT_NE(answer.find("Retry-After: 1"), std::string::npos);
  EXPECT_NE(answer.find("127.0.0.1:" + std::to_string(engine_->port())), std::string::npos);
  EXPECT_NE(answer.find("--vllm-port"), std::string::npos);
  EXPECT_NE(answer.find(R"("code":"engine_unreachable")"), std::string::npos);
}

TEST_F(SidecarTest, AnotherEngineUnderTheSamePortIsUsedAtOnce) {
  StartEcho();
  StartSidecar();
  const std::string close = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  EXPECT_TRUE(Talk(close).starts_with("HTTP/1.1 200"));
  const uint16_t port = engine_->port();
  engine_.reset();  // its idle connections go with it
  auto second = net::HttpServer::Listen(engine_loop_, {"127.0.0.1", port}, {},
                                        [](Exchange e) { e->Respond(200, {}, "second"); });
  ASSERT_TRUE(second);
  EXPECT_TRUE(Talk(close).ends_with("second"));
}

TEST_F(SidecarTest, RequestsForOtherEnginesAre501) {
  StartEcho();
  StartSidecar();
  const std::string answer = Talk(
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nx-prefiller-host-port: 10.0.0.9:8000\r\n"
      "Connection: close\r\nContent-Length: 2\r\n\r\n{}");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 501")) << answer;
  EXPECT_NE(answer.find("x-prefiller-host-port"), std::string::npos);
  EXPECT_EQ(uploaded_, 0u);
}

TEST_F(SidecarTest, UpgradesAreRefused) {
  StartEcho();
  StartSidecar();
  RawClient client(port_);
  client.Send(
      "GET /v1/realtime HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
      "Upgrade: websocket\r\n\r\n");
  ASSERT_TRUE(client.ReadUntil("upgrade_not_supported"));
  EXPECT_TRUE(client.received().starts_with("HTTP/1.1 501"));
}

TEST_F(SidecarTest, RanksHaveTheirOwnPortsAndAHeaderChoosesThem) {
  // Two engines whose ports are neighbours.
  StartEcho();
  std::unique_ptr<net::HttpServer> second;
  for (int attempt = 0; attempt < 50 && !second; ++attempt) {
    auto neighbour = net::HttpServer::Listen(
        engine_loop_, {"127.0.0.1", static_cast<uint16_t>(engine_->port() + 1)}, {},
        [](Exchange e) { e->Respond(200, {}, "rank 1"); });
    if (neighbour) {
      second = std::move(*neighbour);
    } else {
      engine_ = Listen(engine_loop_, [](Exchange e) { e->Respond(200, {}, "rank 0"); });
    }
  }
  ASSERT_TRUE(second);
  SidecarOptions options;
  options.data_parallel_size = 2;
  options.pod_ip = "10.1.2.3";
  StartSidecar(options);
  const auto addresses = sidecar_->addresses();
  ASSERT_EQ(addresses.size(), 2u);
  const auto ask = [&](uint16_t port, const std::string& wanted) {
    RawClient client(port);
    client.Send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + wanted + "\r\n");
    EXPECT_TRUE(client.ReadToEnd());
    return client.received();
  };
  const std::string header = "x-data-parallel-host-port: ";
  const std::string rank_1 = std::to_string(addresses[1].port);
  EXPECT_TRUE(ask(addresses[1].port, "").ends_with("rank 1"));
  EXPECT_TRUE(ask(addresses[0].port, header + "10.1.2.3:" + rank_1 + "\r\n").ends_with("rank 1"));
  EXPECT_FALSE(ask(addresses[0].port, "").ends_with("rank 1"));
  EXPECT_TRUE(
      ask(addresses[0].port, header + "10.9.9.9:" + rank_1 + "\r\n").starts_with("HTTP/1.1 400"));
}

TEST_F(SidecarTest, BothSidesMaySpeakTls) {
  auto engine_tls = net::TlsContext::Server({});
  auto own_tls = net::TlsContext::Server({});
  auto trusting = net::TlsContext::Client({.verify = false});
  ASSERT_TRUE(engine_tls && own_tls && trusting);
  StartEcho({.tls = *engine_tls});
  SidecarOptions options;
  options.engine_tls = true;
  options.client.tls = *trusting;
  options.server.tls = *own_tls;
  StartSidecar(options);
  net::HttpRequest request;
  request.method = "POST";
  request.target = "/v1/models";
  request.body = std::string(3 << 20, 'q');
  const auto answer = net::FetchBlocking({true, {"127.0.0.1", port_}, ""}, request,
                                         std::chrono::seconds(20), 8 << 20, *trusting);
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->status, 200);
  EXPECT_GT(answer->body.size(), request.body.size());
}

TEST_F(SidecarTest, StopLetsRequestsUnderWayEnd) {
  std::mutex mutex;
  Exchange stream;
  StartEngine([&](Exchange exchange) {
    exchange->Begin(200, {});
    exchange->Write("one ");
    const std::scoped_lock lock(mutex);
    stream = exchange;
  });
  StartSidecar();
  RawClient client(port_);
  client.Send(kGet);
  ASSERT_TRUE(client.ReadUntil("one "));
  std::thread stopping([&] { sidecar_->Stop(std::chrono::seconds(20)); });
  EXPECT_TRUE(Eventually([&] { return !RawClient(port_).connected(); }));
  engine_loop_.Run([&] {
    stream->Write("two");
    stream->End();
    stream.reset();
  });
  EXPECT_TRUE(client.ReadUntil("two"));
  EXPECT_TRUE(client.ReadUntil("0\r\n\r\n"));
  stopping.join();
}

TEST_F(SidecarTest, RanksBeyondTheLastPortAreRefused) {
  SidecarOptions options;
  options.engine_port = 65535;
  options.data_parallel_size = 2;
  const auto sidecar = Sidecar::Create(loops_, options);
  ASSERT_FALSE(sidecar);
  EXPECT_EQ(sidecar.error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace warmpath::sidecar
