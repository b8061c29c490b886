// Request bodies that are read, and sent, as they arrive.
#include <gtest/gtest.h>

#include <atomic>
#include <optional>

#include "net/http_client.h"
#include "net/http_server.h"
#include "net/testing.h"

namespace warmpath::net {
namespace {

using std::chrono::milliseconds;
using testing::Eventually;
using testing::RawClient;
using Exchange = std::shared_ptr<HttpExchange>;

class HttpStreamingTest : public ::testing::Test {
 protected:
  HttpStreamingTest() {
    client_loop_.Start();
    client_loop_.Run([this] { client_ = HttpClient::Create(client_loop_, {}); });
  }
  ~HttpStreamingTest() override {
    client_loop_.Run([this] {
      call_.reset();
      client_.reset();
    });
  }

  void Serve(HttpServer::Handler handler, HttpServerOptions options = {}) {
    options.stream_bodies = true;
    auto server =
        HttpServer::Listen(loop_, {"127.0.0.1", 0}, std::move(options), std::move(handler));
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    loop_.Start();
    url_.address = server_->address();
  }
  // Answers with the content, whole, when it has ended.
  void ServeEcho(HttpServerOptions options = {}) {
    Serve(
        [this](Exchange exchange) {
          ++requests_;
          exchange->OnClose([this] { ++gone_; });
          if (!exchange->has_content()) {
            exchange->Respond(200, {}, exchange->request().method + " without content");
            return;
          }
          auto body = std::make_shared<std::string>();
          exchange->ReadBody(
              [this, body](std::string_view bytes) {
                body->append(bytes);
                received_ += bytes.size();
              },
              [exchange, body] { exchange->Respond(200, {}, *body); });
        },
        std::move(options));
  }

  void Send(std::optional<uint64_t> length) {
    HttpRequest request;
    request.method = "POST";
    request.target = "/";
    CallOptions options;
    options.streamed_body = StreamedBody{length};
    CallHandlers handlers;
    handlers.on_head = [this](HttpResponseHead head) { status_ = head.status; };
    handlers.on_data = [this](std::string_view bytes) { answer_.append(bytes); };
    handlers.on_end = [this] { ended_ = true; };
    handlers.on_error = [this](CallFailure failure, const Error&) {
      failure_ = static_cast<int>(failure);
    };
    handlers.on_drain = [this] { ++drained_; };
    client_loop_.Run([&] { call_ = client_->Send(url_, request, options, std::move(handlers)); });
  }
  size_t Write(std::string_view bytes) {
    size_t queued = 0;
    client_loop_.Run([&] { queued = call_->Write(bytes); });
    return queued;
  }
  void End() {
    client_loop_.Run([this] { call_->End(); });
  }
  bool Done() const { return ended_ || failure_ >= 0; }

  Loop loop_{"server"};
  Loop client_loop_{"client"};
  std::unique_ptr<HttpServer> server_;
  std::unique_ptr<HttpClient> client_;
  std::unique_ptr<HttpCall> call_;
  Url url_;
  std::atomic<int> requests_{0}, gone_{0}, status_{0}, failure_{-1}, drained_{0};
  std::atomic<size_t> received_{0};
  std::atomic<bool> ended_{false};
  std::string answer_;
};

// ---- the server

TEST_F(HttpStreamingTest, ContentIsHandedOverBeforeItEnds) {
  ServeEcho();
  RawClient client(server_->port());
  client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf");
  ASSERT_TRUE(Eventually([&] { return received_ == 4; }));
  client.Send("rest");
  ASSERT_TRUE(client.ReadUntil("halfrest"));
  client.Forget();
  // The connection is used again, for chunks, for a request without content, pipelined.
  client.Send(
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n"
      "0\r\nTrailing: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(client.ReadUntil("GET without content"));
  EXPECT_NE(client.received().find("abcd"), std::string::npos);
  EXPECT_EQ(requests_, 3);
  EXPECT_EQ(gone_, 0);
}

TEST_F(HttpStreamingTest, PausedContentIsLeftWithTheClient) {
  std::shared_ptr<HttpExchange> held;
  std::atomic<bool> over{false};
  Serve([&](Exchange exchange) {
    held = exchange;
    exchange->ReadBody(
        [&, exchange](std::string_view bytes) {
          received_ += bytes.size();
          exchange->PauseBody();
        },
        [&, exchange] {
          over = true;
          exchange->Respond(200, {}, "all");
        });
  });
  constexpr size_t kSize = 32 << 20;
  RawClient client(server_->port());
  std::thread sender([&] {
    client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(kSize) +
                "\r\n\r\n" + std::string(kSize, 'x'));
  });
  ASSERT_TRUE(Eventually([&] { return received_ > 0; }));
  const size_t first = received_;
  EXPECT_LT(first, size_t{1} << 20);
  while (!over) {
    loop_.Run([&] { held->ResumeBody(); });
  }
  sender.join();
  EXPECT_EQ(received_, kSize);
  EXPECT_TRUE(client.ReadUntil("all"));
  loop_.Run([&] { held.reset(); });
}

TEST_F(HttpStreamingTest, AnEarlyAnswerIsTheConnectionsLast) {
  Serve([](Exchange exchange) { exchange->Respond(403, {}, "no"); });
  RawClient client(server_->port());
  client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
  EXPECT_TRUE(client.ReadToEnd());
  EXPECT_TRUE(client.received().starts_with("HTTP/1.1 403"));
  EXPECT_NE(client.received().find("Connection: close"), std::string::npos);
  EXPECT_FALSE(client.reset());
}

TEST_F(HttpStreamingTest, AnEarlyAnswerComesAfterTheLeaveToContinue) {
  Serve([](Exchange exchange) { exchange->Respond(200, {}, "early"); });
  RawClient client(server_->port());
  client.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(client.ReadUntil("early"));
  client.Forget();
  client.Send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n");
  EXPECT_TRUE(client.ReadToEnd());
  EXPECT_TRUE(client.received().starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"))
      << client.received();
}

TEST_F(HttpStreamingTest, AClientThatLeavesInsideItsContentIsNoticed) {
  ServeEcho();
  RawClient client(server_->port());
  client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
  ASSERT_TRUE(Eventually([&] { return received_ == 4; }));
  client.Close();
  EXPECT_TRUE(Eventually([&] { return gone_ == 1; }));
}

TEST_F(HttpStreamingTest, AClientThatResetsWhileNobodyReadsIsNoticed) {
  Serve([this](Exchange exchange) {
    ++requests_;
    exchange->OnClose([this, exchange] { ++gone_; });
  });
  RawClient client(server_->port());
  client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
  ASSERT_TRUE(Eventually([&] { return requests_ == 1; }));
  client.Reset();
  EXPECT_TRUE(Eventually([&] { return gone_ == 1; }));
}

TEST_F(HttpStreamingTest, MalformedAndSlowContentIsRefused) {
  ServeEcho({.body_timeout = milliseconds(100)});
  RawClient bad(server_->port());
  bad.Send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabXYZ");
  EXPECT_TRUE(bad.ReadToEnd());
  EXPECT_TRUE(bad.received().starts_with("HTTP/1.1 400")) << bad.received();
  RawClient slow(server_->port());
  slow.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
  EXPECT_TRUE(slow.ReadToEnd());
  EXPECT_TRUE(slow.received().starts_with("HTTP/1.1 408")) << slow.received();
  EXPECT_EQ(gone_, 2);
}

TEST_F(HttpStreamingTest, ContentBeyondTheLimitIsRefused) {
  ServeEcho({.max_body_bytes = 10});
  RawClient client(server_->port());
  client.Send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n");
  EXPECT_TRUE(client.ReadToEnd());
  EXPECT_TRUE(client.received().starts_with("HTTP/1.1 413")) << client.received();
}

// ---- the client

TEST_F(HttpStreamingTest, SendsChunksAsTheyCome) {
  ServeEcho();
  Send(std::nullopt);
  Write("one ");
  ASSERT_TRUE(Eventually([&] { return received_ == 4; }));
  Write("two");
  End();
  ASSERT_TRUE(Eventually([&] { return Done(); }));
  EXPECT_EQ(status_, 200);
  EXPECT_EQ(answer_, "one two");
}

TEST_F(HttpStreamingTest, ADeclaredLengthIsKept) {
  ServeEcho();
  Send(5);
  Write("12345678");
  End();
  ASSERT_TRUE(Eventually([&] { return Done(); }));
  EXPECT_EQ(answer_, "12345");
}

TEST_F(HttpStreamingTest, AServerThatDoesNotReadHoldsTheSenderBack) {
  std::shared_ptr<HttpExchange> held;
  Serve([&](Exchange exchange) {
    ++requests_;
    held = exchange;
  });
  Send(std::nullopt);
  const std::string piece(256 << 10, 'x');
  size_t written = 0;
  ASSERT_TRUE(Eventually([&] { return requests_ == 1; }));
  int drained = 0;
  do {  // the kernel's buffers may grow and take more
    drained = drained_;
    while (Write(piece) <= kUploadHighWater) {
      written += piece.size();
      ASSERT_LT(written, size_t{64} << 20);
    }
  } while (drained_ != drained);
  loop_.Run([&] { held->ReadBody([](std::string_view) {}, [&] { held->Respond(200, {}, ""); }); });
  EXPECT_TRUE(Eventually([&] { return drained_ > drained; }));
  End();
  EXPECT_TRUE(Eventually([&] { return status_ == 200; }));
  loop_.Run([&] { held.reset(); });
}

TEST_F(HttpStreamingTest, AnEarlyAnswerEndsTheCall) {
  Serve([](Exchange exchange) { exchange->Respond(413, {}, "too much"); });
  Send(1000);
  Write("some");
  ASSERT_TRUE(Eventually([&] { return Done(); }));
  EXPECT_EQ(status_, 413);
  EXPECT_EQ(Write("more"), 0u);
}

TEST_F(HttpStreamingTest, AStalePooledConnectionIsReplacedWithWhatWasSent) {
  // Each connection answers once and is then closed, unannounced, as soon as more comes.
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(listener, 4), 0);
  socklen_t size = sizeof address;
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  url_.address = {"127.0.0.1", ntohs(address.sin_port)};
  std::string last;
  std::thread server([&] {
    for (int i = 0; i < 2; ++i) {
      const int connection = accept(listener, nullptr, nullptr);
      std::string got;
      char buffer[4096];
      while (!got.ends_with("hello")) {
        const ssize_t n = recv(connection, buffer, sizeof buffer, 0);
        if (n <= 0) break;
        got.append(buffer, static_cast<size_t>(n));
      }
      last = got;
      constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
      send(connection, kOk.data(), kOk.size(), MSG_NOSIGNAL);
      if (i == 0) recv(connection, buffer, 1, 0);
      close(connection);
    }
  });
  for (int i = 0; i < 2; ++i) {
    ended_ = false;
    Send(5);
    Write("hello");
    End();
    ASSERT_TRUE(Eventually([&] { return Done(); }));
    EXPECT_EQ(failure_, -1);
  }
  server.join();
  close(listener);
  EXPECT_EQ(answer_, "okok");
  EXPECT_TRUE(last.ends_with("hello"));
}

}  // namespace
}  // namespace warmpath::net
