#include "net/http_server.h"

#include <gtest/gtest.h>

#include <atomic>

#include "net/testing.h"

namespace warmpath::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Eventually;
using testing::RawClient;

class HttpServerTest : public ::testing::Test {
 protected:
  using Exchange = std::shared_ptr<HttpExchange>;

  void Serve(HttpServerOptions options, HttpServer::Handler handler) {
    auto server =
        HttpServer::Listen(loops_, {"127.0.0.1", 0}, std::move(options), std::move(handler));
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    loops_.Start();
  }
  void ServeEcho(HttpServerOptions options = {}) {
    Serve(std::move(options), [this](Exchange exchange) {
      ++requests_;
      const HttpRequest& request = exchange->request();
      exchange->Respond(200, {{"Content-Type", "text/plain"}},
                        request.method + " " + request.target + " " + request.body);
    });
  }
  // The whole exchange over a connection that the server closes.
  std::string Talk(std::string_view bytes) {
    RawClient client(server_->port());
    client.Send(bytes);
    EXPECT_TRUE(client.ReadToEnd());
    return client.received();
  }

  LoopGroup loops_{"test", 2};
  std::unique_ptr<HttpServer> server_;
  std::atomic<int> requests_{0};
};

constexpr std::string_view kGet = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

TEST_F(HttpServerTest, KeepsTheConnectionForMoreRequests) {
  ServeEcho();
  RawClient client(server_->port());
  for (int i = 0; i < 3; ++i) {
    client.Forget();
    client.Send(kGet);
    ASSERT_TRUE(client.ReadUntil("GET /a "));
    EXPECT_EQ(client.received(),
              "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\nGET /a ");
  }
  EXPECT_EQ(server_->connections(), 1u);
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  ServeEcho();
  RawClient client(server_->port());
  std::string all;
  for (int i = 0; i < 50; ++i) all += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: x\r\n\r\n";
  client.Send(all + "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  ASSERT_TRUE(client.ReadToEnd());
  size_t at = 0;
  for (int i = 0; i < 50; ++i) {
    at = client.received().find("GET /" + std::to_string(i) + " ", at);
    ASSERT_NE(at, std::string::npos) << i;
  }
  EXPECT_NE(client.received().find("Connection: close"), std::string::npos);
}

TEST_F(HttpServerTest, PipelinedBytesAreBoundedAndNotLost) {
  std::shared_ptr<HttpExchange> first;
  std::atomic<bool> held{false};
  Serve({}, [&](Exchange exchange) {
    if (requests_++ > 0) {
      exchange->Respond(200, {}, "answer");
      return;
    }
    first = std::move(exchange);
    held = true;
  });
  constexpr int kRequests = 20;
  std::string all(kGet);
  for (int i = 1; i < kRequests; ++i) {
    all +=
        "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" + std::string(50'000, 'x');
  }
  RawClient client(server_->port());
  std::thread sending([&] { EXPECT_TRUE(client.Send(all)); });
  ASSERT_TRUE(Eventually([&] { return held.load(); }));
  first->loop().Run([&] { first->Respond(200, {}, "first"); });
  sending.join();
  EXPECT_TRUE(Eventually([&] { return requests_ == kRequests; }));
  EXPECT_TRUE(client.ReadUntil("answer"));
}

TEST_F(HttpServerTest, LargeBodiesArriveWholeInBuffersUsedAgain) {
  Serve({}, [](Exchange exchange) {
    std::string body = std::move(exchange->request().body);
    exchange->Respond(200, {}, body);
    RecycleBody(exchange->loop(), std::move(body));
  });
  RawClient client(server_->port());
  for (const size_t size : {300'000u, 100'000u, 1'500'000u, 33'000u, 400'000u}) {
    std::string body;
    for (size_t i = 0; body.size() < size; ++i) body += std::to_string(i * size) + ",";
    body.resize(size);
    client.Forget();
    // A second request right behind it, so that the end of the body lies inside a read.
    client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(size) +
                "\r\n\r\n" + body + "GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    ASSERT_TRUE(client.ReadUntil("Content-Length: 0\r\n\r\n"));
    const size_t start = client.received().find("\r\n\r\n") + 4;
    EXPECT_TRUE(client.received().substr(start, size) == body) << size;
  }
}

TEST_F(HttpServerTest, ReadsChunkedUploads) {
  ServeEcho();
  EXPECT_NE(
      Talk("POST /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
           "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
          .find("POST /c abcde"),
      std::string::npos);
}

TEST_F(HttpServerTest, ContinuesAnExpectedUpload) {
  ServeEcho();
  RawClient client(server_->port());
  client.Send("POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  ASSERT_TRUE(client.ReadUntil("HTTP/1.1 100 Continue\r\n\r\n"));
  client.Send("abc");
  EXPECT_TRUE(client.ReadUntil("POST /e abc"));
}

TEST_F(HttpServerTest, AnswersHeadWithoutABody) {
  ServeEcho();
  EXPECT_EQ(Talk("HEAD /h HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 8\r\nConnection: "
            "close\r\n\r\n");
}

TEST_F(HttpServerTest, SpeaksHttp10) {
  ServeEcho();
  EXPECT_EQ(Talk("GET /z HTTP/1.0\r\n\r\n"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\nConnection: "
            "close\r\n\r\nGET /z ");
}

TEST_F(HttpServerTest, RefusesMalformedRequestsAndCloses) {
  ServeEcho();
  const std::string answer =
      Talk("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx" +
           std::string(kGet));
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 Bad Request\r\n")) << answer;
  EXPECT_NE(answer.find("\"type\":\"invalid_request_error\""), std::string::npos);
  EXPECT_EQ(requests_, 0);
}

TEST_F(HttpServerTest, LimitsBodyAndHead) {
  ServeEcho({.max_head_bytes = 1000, .max_body_bytes = 1000});
  EXPECT_TRUE(
      Talk("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n" + std::string(200'000, 'x'))
          .starts_with("HTTP/1.1 413"));
  EXPECT_TRUE(Talk("GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(2000, 'x') + "\r\n\r\n")
                  .starts_with("HTTP/1.1 431"));
  EXPECT_EQ(requests_, 0);
}

TEST_F(HttpServerTest, TimesOutBodiesThatDribble) {
  ServeEcho({.body_timeout = milliseconds(100), .min_body_bytes_per_second = 1 << 30});
  RawClient client(server_->port());
  client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n");
  EXPECT_TRUE(Eventually([&] {
    client.Send("x");
    client.ReadSome(Duration::zero());
    return client.received().starts_with("HTTP/1.1 408");
  }));
  EXPECT_EQ(requests_, 0);
}

TEST_F(HttpServerTest, TimesOutSlowHeadsBodiesAndIdleConnections) {
  ServeEcho({.head_timeout = milliseconds(60),
             .body_timeout = milliseconds(60),
             .idle_timeout = milliseconds(60)});
  EXPECT_TRUE(Talk("GET / HT").starts_with("HTTP/1.1 408"));
  EXPECT_TRUE(Talk("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
                  .starts_with("HTTP/1.1 408"));
  EXPECT_EQ(Talk(""), "");
}

TEST_F(HttpServerTest, StreamsInChunksAndEnds) {
  Serve({}, [](Exchange exchange) {
    exchange->Begin(200, {{"Content-Type", "text/event-stream"}});
    exchange->Write("data: 1\n\n");
    // From a later turn of the loop.
    auto timer = std::make_shared<Timer>();
    *timer = exchange->loop().After(milliseconds(5), [exchange, timer] {
      exchange->Write("data: 2\n\n");
      exchange->End();
    });
  });
  RawClient client(server_->port());
  client.Send(kGet);
  ASSERT_TRUE(client.ReadUntil("0\r\n\r\n"));
  EXPECT_EQ(
      client.received(),
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
      "9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n");
}

TEST_F(HttpServerTest, ADeclaredLengthIsStreamedPlain) {
  Serve({}, [](Exchange exchange) {
    exchange->Begin(200, {{"Content-Length", "4"}});
    exchange->Write("ab");
    exchange->Write("cd");
    exchange->End();
  });
  RawClient client(server_->port());
  client.Send(kGet);
  ASSERT_TRUE(client.ReadUntil("abcd"));
  EXPECT_EQ(client.received(), "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd");
}

TEST_F(HttpServerTest, AbortResetsTheConnection) {
  Serve({}, [](Exchange exchange) {
    exchange->Begin(200, {});
    exchange->Write("x");
    auto timer = std::make_shared<Timer>();
    *timer = exchange->loop().After(milliseconds(5), [exchange, timer] {
      exchange->Abort();
      EXPECT_TRUE(exchange->closed());
      EXPECT_EQ(exchange->Write("late"), 0u);
    });
  });
  RawClient client(server_->port());
  client.Send(kGet);
  EXPECT_TRUE(client.ReadToEnd());
  EXPECT_TRUE(client.reset());
}

TEST_F(HttpServerTest, TellsWhenTheClientGoesAway) {
  std::atomic<int> gone{0};
  std::atomic<int> begun{0};
  Serve({}, [&](Exchange exchange) {
    ++begun;
    exchange->OnClose([&gone, exchange] {
      EXPECT_TRUE(exchange->closed());
      ++gone;
    });
  });
  {
    RawClient client(server_->port());
    client.Send(kGet);
    ASSERT_TRUE(Eventually([&] { return begun == 1; }));
    EXPECT_EQ(gone, 0);
  }
  EXPECT_TRUE(Eventually([&] { return gone == 1; }));
  RawClient client(server_->port());
  // A pipelined request behind the one at hand does not hide the reset.
  client.Send(std::string(kGet) + std::string(kGet));
  ASSERT_TRUE(Eventually([&] { return begun == 2; }));
  client.Reset();
  EXPECT_TRUE(Eventually([&] { return gone == 2; }));
  EXPECT_TRUE(Eventually([&] { return server_->connections() == 0; }));
}

TEST_F(HttpServerTest, ASlowReaderHoldsUpTheWriterAndLosesNothing) {
  constexpr size_t kTotal = 8 << 20;
  constexpr size_t kWater = 64 << 10;
  std::atomic<size_t> most_queued{0};
  std::atomic<bool> paused{false};
  Serve({.high_water_bytes = kWater}, [&](Exchange exchange) {
    exchange->Begin(200, {{"Content-Length", std::to_string(kTotal)}});
    auto written = std::make_shared<size_t>(0);
    auto fill = std::make_shared<std::function<void()>>();
    *fill = [&, written, raw = exchange.get()] {
      size_t queued = 0;
      while (*written < kTotal && queued <= raw->high_water()) {
        queued = raw->Write(std::string(16 << 10, static_cast<char>('a' + (*written >> 14) % 26)));
        *written += 16 << 10;
        most_queued = std::max(most_queued.load(), queued);
      }
      if (*written == kTotal) {
        raw->End();
      } else {
        paused = true;
      }
    };
    exchange->OnDrain([fill] { (*fill)(); });
    (*fill)();
  });
  RawClient client(server_->port(), 16 << 10);
  client.Send(kGet);
  ASSERT_TRUE(Eventually([&] { return paused.load(); }));
  ASSERT_TRUE(client.ReadUntil("\r\n\r\n"));
  const size_t head = client.received().find("\r\n\r\n") + 4;
  while (client.received().size() < head + kTotal && client.ReadSome()) {
  }
  ASSERT_EQ(client.received().size(), head + kTotal);
  for (size_t i = 0; i < kTotal; i += 16 << 10) {
    ASSERT_EQ(client.received()[head + i], static_cast<char>('a' + (i >> 14) % 26));
  }
  EXPECT_LE(most_queued, kWater + (32 << 10));
}

TEST_F(HttpServerTest, AClientThatStopsReadingIsClosedInTheEnd) {
  std::atomic<bool> gone{false};
  Serve({.write_timeout = milliseconds(100)}, [&](Exchange exchange) {
    exchange->OnClose([&] { gone = true; });
    exchange->Begin(200, {});
    exchange->Write(std::string(16 << 20, 'x'));
  });
  RawClient client(server_->port(), 4 << 10);
  client.Send(kGet);
  EXPECT_TRUE(Eventually([&] { return gone.load(); }));
}

TEST_F(HttpServerTest, StopDrainsWhatIsAtHand) {
  std::atomic<bool> begun{false};
  std::shared_ptr<HttpExchange> held;
  Serve({}, [&](Exchange exchange) {
    held = std::move(exchange);
    begun = true;
  });
  RawClient idle(server_->port());
  idle.Send("");
  RawClient client(server_->port());
  client.Send(kGet);
  ASSERT_TRUE(Eventually([&] { return begun.load() && server_->connections() == 2; }));
  server_->StopAccepting();
  EXPECT_TRUE(idle.ReadToEnd());
  EXPECT_FALSE(RawClient(server_->port()).connected());
  std::thread stopping([&] { server_->Stop(seconds(10)); });
  held->loop().Post([&] { held->Respond(200, {}, "done"); });
  EXPECT_TRUE(client.ReadToEnd());
  stopping.join();
  EXPECT_NE(client.received().find("Connection: close\r\n\r\ndone"), std::string::npos)
      << client.received();
  EXPECT_EQ(server_->connections(), 0u);
}

TEST_F(HttpServerTest, StopResetsAnAnswerThatOnlyTheEndOfTheConnectionEnds) {
  std::shared_ptr<HttpExchange> held;
  Serve({}, [&](Exchange exchange) {
    exchange->Begin(200, {});
    exchange->Write("half");
    held = std::move(exchange);
  });
  RawClient client(server_->port());
  client.Send("GET /a HTTP/1.0\r\n\r\n");
  ASSERT_TRUE(client.ReadUntil("half"));
  server_->Stop(milliseconds(0));
  EXPECT_TRUE(client.ReadToEnd());
  EXPECT_TRUE(client.reset());
}

TEST_F(HttpServerTest, StopClosesWhatOutlivesTheDeadline) {
  std::atomic<bool> begun{false};
  std::atomic<bool> gone{false};
  Serve({}, [&](Exchange exchange) {
    exchange->OnClose([&] { gone = true; });
    begun = true;
  });
  RawClient client(server_->port());
  client.Send(kGet);
  ASSERT_TRUE(Eventually([&] { return begun.load(); }));
  server_->Stop(milliseconds(20));
  EXPECT_TRUE(gone);
  EXPECT_TRUE(client.ReadToEnd());
}

TEST_F(HttpServerTest, RefusesConnectionsOverItsLimit) {
  ServeEcho({.max_connections = 1});
  RawClient first(server_->port());
  first.Send(kGet);
  ASSERT_TRUE(first.ReadUntil("GET /a "));
  RawClient second(server_->port());
  EXPECT_TRUE(second.ReadToEnd());
  EXPECT_EQ(second.received(), "");
}

TEST_F(HttpServerTest, ATakenPortIsAnError) {
  ServeEcho();
  Loop other("other");
  EXPECT_FALSE(HttpServer::Listen(other, {"127.0.0.1", server_->port()}, {}, [](Exchange) {}));
  EXPECT_FALSE(HttpServer::Listen(other, {"not-an-address", 0}, {}, [](Exchange) {}));
}

}  // namespace
}  // namespace warmpath::net
