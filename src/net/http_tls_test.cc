// HTTP/1 server and client over TLS, on sockets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <set>

#include "net/http_client.h"
#include "net/http_server.h"
#include "net/testing.h"
#include "net/tls_testing.h"

namespace warmpath::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Eventually;
using ::testing::HasSubstr;
using testing::RawClient;
using testing::TestAuthority;
using testing::TestDirectory;
using testing::TestServer;
using testing::WriteIdentity;

std::string Pattern(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 31 >> 3);
  return text;
}

// A blocking client that sees the plaintext and how the session ended.
class RawTlsClient {
 public:
  RawTlsClient(uint16_t port, TlsContext& context, int receive_buffer = 0)
      : socket_(port, receive_buffer), session_(context.NewSession("localhost")) {
    Flush();
    while (!session_->established() && Read()) {
    }
  }
  bool established() const { return session_->established(); }
  bool closed_properly() const { return session_->peer_closed(); }
  bool reset() const { return socket_.reset(); }
  const std::string& received() const { return received_; }
  TlsSession& session() { return *session_; }
  RawClient& socket() { return socket_; }

  void Send(std::string_view bytes) {
    EXPECT_TRUE(session_->Write(bytes));
    Flush();
  }
  void Flush() {
    std::string wire;
    session_->TakeOutput(wire);
    socket_.Send(wire);
  }
  bool Read() {
    socket_.Forget();
    if (!socket_.ReadSome()) return false;
    const bool fed = session_->Feed(socket_.received(), received_).has_value();
    Flush();
    return fed;
  }
  bool ReadUntil(std::string_view text) {
    while (received_.find(text) == std::string::npos) {
      if (!Read()) return false;
    }
    return true;
  }
  void ReadToEnd() {
    while (Read()) {
    }
  }

 private:
  RawClient socket_;
  std::unique_ptr<TlsSession> session_;
  std::string received_;
};

class HttpTlsTest : public ::testing::Test {
 protected:
  using Exchange = std::shared_ptr<HttpExchange>;

  HttpTlsTest() {
    tls_options_.cert_dir = WriteIdentity(directory_, "server", TestServer());
    tls_options_.alpn = {"http/1.1"};
    client_options_.ca_file = directory_.Write("ca.crt", TestAuthority().pem());
    loop_.Start();
  }
  ~HttpTlsTest() override {
    loop_.Run([this] {
      call_.reset();
      client_.reset();
    });
  }

  void Serve(HttpServer::Handler handler, HttpServerOptions options = {}) {
    options.tls = server_tls_ = TlsContext::Server(tls_options_).value();
    auto server =
        HttpServer::Listen(server_loop_, {"127.0.0.1", 0}, std::move(options), std::move(handler));
    ASSERT_TRUE(server);
    server_ = std::move(*server);
    server_loop_.Start();
    url_ = {.tls = true, .address = server_->address(), .base_path = ""};
    UseClient();
  }
  void UseClient() {
    client_tls_ = TlsContext::Client(client_options_).value();
    HttpClientOptions options;
    options.tls = client_tls_;
    loop_.Run([&] {
      call_.reset();
      client_ = HttpClient::Create(loop_, std::move(options));
    });
  }
  static HttpRequest Get(std::string target = "/x") {
    HttpRequest request;
    request.method = "GET";
    request.target = std::move(target);
    return request;
  }
  Result<HttpResponse> Fetch(HttpRequest request = Get()) {
    return Fetch(url_, std::move(request));
  }
  Result<HttpResponse> Fetch(const Url& url, HttpRequest request) {
    std::atomic<bool> done{false};
    Result<HttpResponse> result = Fail(Code::kInternal, "");
    loop_.Run([&] {
      client_->Fetch(url, std::move(request), seconds(20), 64 << 20,
                     [&](Result<HttpResponse> answer) {
                       result = std::move(answer);
                       done = true;
                     });
    });
    EXPECT_TRUE(Eventually([&] { return done.load(); }, seconds(30)));
    return result;
  }

  TestDirectory directory_;
  TlsServerOptions tls_options_;
  TlsClientOptions client_options_;
  std::shared_ptr<TlsContext> server_tls_;
  std::shared_ptr<TlsContext> client_tls_;
  Loop server_loop_{"server"};
  Loop loop_{"client"};
  std::unique_ptr<HttpServer> server_;
  std::unique_ptr<HttpClient> client_;
  std::unique_ptr<HttpCall> call_;
  Url url_;
};

TEST_F(HttpTlsTest, ConnectionsAreReused) {
  std::set<std::string> peers;
  Serve([&](Exchange exchange) {
    peers.insert(exchange->request().peer);
    exchange->Respond(200, {}, "hello");
  });
  for (int i = 0; i < 5; ++i) {
    const auto answer = Fetch();
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->body, "hello");
  }
  EXPECT_EQ(peers.size(), 1u);
}

TEST_F(HttpTlsTest, LargeBodiesPassUnchangedBothWays) {
  const std::string sent = Pattern(10 << 20);
  std::string received;
  Serve([&](Exchange exchange) {
    received = std::move(exchange->request().body);
    exchange->Respond(200, {}, received);
  });
  HttpRequest request = Get();
  request.method = "POST";
  request.body = sent;
  for (int i = 0; i < 2; ++i) {
    const auto answer = Fetch(request);
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_TRUE(received == sent);
    EXPECT_TRUE(answer->body == sent);
  }
}

TEST_F(HttpTlsTest, ASlowReaderHoldsTheServerBack) {
  constexpr size_t kTotal = 16 << 20;
  std::atomic<size_t> written{0};
  size_t most_queued = 0;
  Serve([&](Exchange exchange) {
    exchange->Begin(200, {});
    const auto fill = [&, raw = exchange.get()] {
      size_t queued = 0;
      while (written < kTotal && queued <= raw->high_water()) {
        queued = raw->Write(std::string(16 << 10, 'x'));
        most_queued = std::max(most_queued, queued);
        written += 16 << 10;
      }
      if (written == kTotal) raw->End();
    };
    exchange->OnDrain(fill);
    fill();
  });
  RawTlsClient client(server_->port(), *client_tls_, 16 << 10);
  ASSERT_TRUE(client.established());
  client.Send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  ASSERT_TRUE(client.ReadUntil("xxx"));
  // The sockets' buffers fill, then nothing more is written.
  size_t before = 0;
  ASSERT_TRUE(Eventually([&] {
    const size_t now = written;
    server_loop_.Run([] {});
    return now > 0 && std::exchange(before, now) == now;
  }));
  EXPECT_LT(written, kTotal);
  client.ReadToEnd();
  EXPECT_EQ(std::count(client.received().begin(), client.received().end(), 'x'),
            static_cast<ptrdiff_t>(kTotal));
  EXPECT_TRUE(client.closed_properly());
  server_loop_.Run([&] { EXPECT_LE(most_queued, size_t{64} << 10); });
}

TEST_F(HttpTlsTest, PauseHoldsDataBackAndResumeLosesNone) {
  constexpr size_t kTotal = 8 << 20;
  Serve([&](Exchange exchange) { exchange->Respond(200, {}, Pattern(kTotal)); });
  std::string body;
  std::atomic<bool> paused{false};
  std::atomic<bool> ended{false};
  loop_.Run([&] {
    CallHandlers handlers;
    handlers.on_data = [&](std::string_view data) {
      body += data;
      if (!paused.exchange(true)) call_->Pause();
    };
    handlers.on_end = [&] { ended = true; };
    call_ = client_->Send(url_, Get(), {}, std::move(handlers));
  });
  ASSERT_TRUE(Eventually([&] { return paused.load(); }));
  loop_.Run([&] { EXPECT_LE(body.size(), size_t{64} << 10); });
  loop_.Run([&] { call_->Resume(); });
  ASSERT_TRUE(Eventually([&] { return ended.load(); }, seconds(30)));
  EXPECT_TRUE(body == Pattern(kTotal));
}

TEST_F(HttpTlsTest, PipelinedRequestsAreAnsweredInOrderHoweverTheyAreCut) {
  Serve([](Exchange exchange) { exchange->Respond(200, {}, exchange->request().target + "!"); });
  RawTlsClient client(server_->port(), *client_tls_);
  std::string wire;
  ASSERT_TRUE(client.session().Write("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTT"));
  ASSERT_TRUE(client.session().Write("P/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
  client.session().TakeOutput(wire);
  for (const char byte : wire) client.socket().Send({&byte, 1});
  client.ReadToEnd();
  const size_t first = client.received().find("/1!");
  EXPECT_NE(first, std::string::npos);
  EXPECT_NE(client.received().find("/2!", first), std::string::npos);
  EXPECT_TRUE(client.closed_properly());
  EXPECT_FALSE(client.reset());
}

TEST_F(HttpTlsTest, AClientThatVanishesIsNoticed) {
  std::atomic<int> begun{0};
  std::atomic<int> gone{0};
  Serve([&](Exchange exchange) {
    exchange->OnClose([&, exchange] { ++gone; });
    ++begun;
  });
  for (const int how : {0, 1, 2}) {
    RawTlsClient client(server_->port(), *client_tls_);
    client.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    ASSERT_TRUE(Eventually([&] { return begun == how + 1; }));
    if (how == 0) client.socket().Reset();
    if (how == 1) client.socket().Close();
    if (how == 2) {  // the session ends; the socket stays
      client.session().Close();
      client.Flush();
    }
    EXPECT_TRUE(Eventually([&] { return gone == how + 1; })) << how;
  }
  EXPECT_TRUE(Eventually([&] { return server_->connections() == 0; }));
}

TEST_F(HttpTlsTest, AnAnswerCutShortIsAFailure) {
  std::vector<Exchange> held;
  Serve([&](Exchange exchange) {
    exchange->Begin(200, {});
    exchange->Write("half");
    held.push_back(exchange);
  });
  std::atomic<size_t> bytes{0};
  std::atomic<int> failure{-1};
  loop_.Run([&] {
    CallHandlers handlers;
    handlers.on_data = [&](std::string_view data) { bytes += data.size(); };
    handlers.on_error = [&](CallFailure why, const Error&) { failure = static_cast<int>(why); };
    call_ = client_->Send(url_, Get(), {}, std::move(handlers));
  });
  ASSERT_TRUE(Eventually([&] { return bytes == 4; }));
  server_loop_.Run([&] { held.front()->Abort(); });
  ASSERT_TRUE(Eventually([&] { return failure >= 0; }));
  EXPECT_EQ(failure, static_cast<int>(CallFailure::kAfterHead));
  server_loop_.Run([&] { held.clear(); });
}

TEST_F(HttpTlsTest, TheServersNameIsVerified) {
  Serve([](Exchange exchange) { exchange->Respond(200, {}, "ok"); });
  Url url = url_;
  url.address.host = "localhost";
  EXPECT_TRUE(Fetch(url, Get()));

  client_options_.ca_file = directory_.Write("other.crt", testing::OtherAuthority().pem());
  UseClient();
  const auto refused = Fetch();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("TLS with " + url_.address.ToString() +
                                                 ": the peer's certificate is not accepted: "));
  client_options_.verify = false;
  UseClient();
  EXPECT_TRUE(Fetch());
  // Without a context of the caller's: the system's authorities, none of which knows this server.
  loop_.Run([&] { client_ = HttpClient::Create(loop_, {}); });
  EXPECT_FALSE(Fetch());
}

TEST_F(HttpTlsTest, ClientsWithoutACertificateAreRefusedWhereOneIsDemanded) {
  tls_options_.client_ca_file = client_options_.ca_file;
  std::atomic<int> requests{0};
  Serve([&](Exchange exchange) {
    ++requests;
    exchange->Respond(200, {}, "ok");
  });
  const auto refused = Fetch();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
  EXPECT_EQ(requests, 0);
  const std::string identity = WriteIdentity(directory_, "me", TestAuthority().Issue("", true));
  client_options_.cert_file = identity + "/tls.crt";
  client_options_.key_file = identity + "/tls.key";
  UseClient();
  const auto answer = Fetch();
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(requests, 1);
}

TEST_F(HttpTlsTest, PlaintextAndTlsDoNotMeet) {
  Serve([](Exchange exchange) { exchange->Respond(200, {}, "ok"); });
  RawClient plain(server_->port());
  plain.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(plain.ReadToEnd());
  EXPECT_FALSE(plain.reset());
  Url http = url_;
  http.tls = false;
  EXPECT_FALSE(Fetch(http, Get()));

  Loop loop("plain");
  auto server = HttpServer::Listen(loop, {"127.0.0.1", 0}, {},
                                   [](Exchange exchange) { exchange->Respond(200, {}, "ok"); });
  ASSERT_TRUE(server);
  loop.Start();
  const auto answer = Fetch({.tls = true, .address = (*server)->address(), .base_path = ""}, Get());
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().message, HasSubstr("TLS with "));
}

TEST_F(HttpTlsTest, AHandshakeMustEndInTime) {
  HttpServerOptions options;
  options.head_timeout = milliseconds(60);
  Serve([](Exchange exchange) { exchange->Respond(200, {}, "ok"); }, std::move(options));
  RawClient silent(server_->port());
  EXPECT_TRUE(silent.ReadToEnd());
}

TEST_F(HttpTlsTest, AReloadedCertificateIsShownToNewConnections) {
  Serve([](Exchange exchange) { exchange->Respond(200, {}, "ok"); });
  ASSERT_TRUE(Fetch());
  WriteIdentity(directory_, "server", testing::OtherAuthority().Issue("IP:127.0.0.1"));
  ASSERT_TRUE(server_tls_->Reload());
  EXPECT_TRUE(Fetch());  // on the connection there is
  UseClient();
  EXPECT_FALSE(Fetch());
  client_options_.ca_file = directory_.Write("ca.crt", testing::OtherAuthority().pem());
  UseClient();
  EXPECT_TRUE(Fetch());
}

TEST_F(HttpTlsTest, ABodyThatEndsWithTheConnectionNeedsCloseNotify) {
  // HTTP/1.0 has no chunks: its streamed answers end with the connection.
  Serve([](Exchange exchange) {
    exchange->Begin(200, {});
    exchange->Write("all of it");
    exchange->End();
  });
  RawTlsClient client(server_->port(), *client_tls_);
  client.Send("GET / HTTP/1.0\r\n\r\n");
  client.ReadToEnd();
  EXPECT_TRUE(client.received().ends_with("\r\n\r\nall of it"));
  EXPECT_TRUE(client.closed_properly());
}

}  // namespace
}  // namespace warmpath::net
