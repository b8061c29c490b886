#include "net/http_client.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>

#include "net/http_server.h"
#include "net/testing.h"

namespace warmpath::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Eventually;

// A server that answers with prepared bytes, whatever is asked; one connection after the other.
class ScriptedServer {
 public:
  // `scripts[i]` is sent on connection i after its request head came, then the connection is closed
  // ("": closed without reading).
  explicit ScriptedServer(std::vector<std::string> scripts) : scripts_(std::move(scripts)) {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    listen(fd_, 16);
    socklen_t size = sizeof address;
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    url_.address = {"127.0.0.1", ntohs(address.sin_port)};
    thread_ = std::thread([this] {
      for (const std::string& script : scripts_) {
        const int connection = accept(fd_, nullptr, nullptr);
        if (connection < 0) return;
        std::string request;
        char buffer[4096];
        while (!script.empty() && request.find("\r\n\r\n") == std::string::npos) {
          const ssize_t got = recv(connection, buffer, sizeof buffer, 0);
          if (got <= 0) break;
          request.append(buffer, static_cast<size_t>(got));
        }
        send(connection, script.data(), script.size(), MSG_NOSIGNAL);
        close(connection);
      }
    });
  }
  ~ScriptedServer() {
    shutdown(fd_, SHUT_RDWR);
    thread_.join();
    close(fd_);
  }
  const Url& url() const { return url_; }

 private:
  std::vector<std::string> scripts_;
  Url url_;
  int fd_;
  std::thread thread_;
};

struct Seen {
  std::atomic<int> status{0};
  std::atomic<bool> ended{false};
  std::atomic<int> failure{-1};
  std::atomic<size_t> bytes{0};
  std::string body;

  CallHandlers Handlers() {
    CallHandlers handlers;
    handlers.on_head = [this](HttpResponseHead head) { status = head.status; };
    handlers.on_data = [this](std::string_view data) {
      body.append(data);
      bytes += data.size();
    };
    handlers.on_end = [this] { ended = true; };
    handlers.on_error = [this](CallFailure why, const Error&) { failure = static_cast<int>(why); };
    return handlers;
  }
  bool Done() const { return ended || failure >= 0; }
};

class HttpClientTest : public ::testing::Test {
 protected:
  HttpClientTest() {
    loop_.Start();
    UseClient({});
  }
  ~HttpClientTest() override {
    loop_.Run([this] {
      call_.reset();
      client_.reset();
    });
  }
  void UseClient(HttpClientOptions options) {
    loop_.Run([&] { client_ = HttpClient::Create(loop_, options); });
  }
  void Serve(HttpServer::Handler handler, HttpServerOptions options = {}) {
    auto server =
        HttpServer::Listen(server_loop_, {"127.0.0.1", 0}, std::move(options), std::move(handler));
    ASSERT_TRUE(server);
    server_ = std::move(*server);
    server_loop_.Start();
    url_.address = server_->address();
  }
  static HttpRequest Get() {
    HttpRequest request;
    request.method = "GET";
    request.target = "/x";
    return request;
  }
  void Send(const Url& url, Seen& seen, HttpRequest request = Get(), CallOptions options = {}) {
    loop_.Run([&] {
      call_ = client_->Send(url, std::move(request), options, seen.Handlers());
      EXPECT_FALSE(seen.Done());  // never from inside Send
    });
  }

  Loop server_loop_{"server"};
  Loop loop_{"client"};
  std::unique_ptr<HttpServer> server_;
  std::unique_ptr<HttpClient> client_;
  std::unique_ptr<HttpCall> call_;
  Url url_;
};

TEST_F(HttpClientTest, ReusesConnections) {
  std::set<std::string> peers;
  Serve([&](std::shared_ptr<HttpExchange> exchange) {
    peers.insert(exchange->request().peer);
    exchange->Respond(200, {}, std::string(exchange->request().headers.Get("Host").value_or("")));
  });
  for (int i = 0; i < 5; ++i) {
    Seen seen;
    Send(url_, seen);
    ASSERT_TRUE(Eventually([&] { return seen.Done(); }));
    EXPECT_TRUE(seen.ended);
    EXPECT_EQ(seen.body, url_.address.ToString());
  }
  EXPECT_EQ(peers.size(), 1u);
}

TEST_F(HttpClientTest, SendsLargeBodiesUnchanged) {
  std::string received;
  Serve([&](std::shared_ptr<HttpExchange> exchange) {
    received = std::move(exchange->request().body);
    exchange->Respond(200, {}, "ok");
  });
  HttpRequest request = Get();
  request.method = "POST";
  for (size_t i = 0; i < (20u << 20); ++i) request.body += static_cast<char>(i * 31 >> 3);
  const std::string sent = request.body;
  Seen seen;
  Send(url_, seen, request);
  ASSERT_TRUE(Eventually([&] { return seen.Done(); }));
  EXPECT_EQ(seen.status, 200);
  EXPECT_TRUE(received == sent);
}

TEST_F(HttpClientTest, ASharedBodyIsLetGoBeforeTheAnswersHead) {
  Serve([&](std::shared_ptr<HttpExchange> exchange) { exchange->Respond(200, {}, "ok"); });
  CallOptions options;
  options.shared_body = std::make_shared<const std::string>(100'000, 'x');
  const std::weak_ptr<const std::string> body = options.shared_body;
  std::atomic<long> holders{-1};
  Seen seen;
  CallHandlers handlers = seen.Handlers();
  handlers.on_head = [&](HttpResponseHead) { holders = body.use_count(); };
  loop_.Run([&] { call_ = client_->Send(url_, Get(), std::move(options), std::move(handlers)); });
  ASSERT_TRUE(Eventually([&] { return seen.Done(); }));
  EXPECT_EQ(holders, 0);
}

TEST_F(HttpClientTest, ReadsBodiesThatEndWithTheConnection) {
  ScriptedServer server({"HTTP/1.0 200 OK\r\n\r\nall of it"});
  Seen seen;
  Send(server.url(), seen);
  ASSERT_TRUE(Eventually([&] { return seen.Done(); }));
  EXPECT_TRUE(seen.ended);
  EXPECT_EQ(seen.body, "all of it");
}

TEST_F(HttpClientTest, AStalePooledConnectionIsReplacedSilently) {
  const std::string good = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  // Promises keep-alive, yet closes: the next request meets a closed connection or none.
  ScriptedServer server({good, good, good});
  for (int i = 0; i < 3; ++i) {
    Seen seen;
    Send(server.url(), seen);
    ASSERT_TRUE(Eventually([&] { return seen.Done(); }));
    EXPECT_TRUE(seen.ended) << i;
  }
}

TEST_F(HttpClientTest, TellsHowACallFailed) {
  struct Row {
    std::string script;
    CallFailure failure;
  };
  const Row rows[] = {
      {"", CallFailure::kBeforeHead},
      {"HTTP/1.1 200 OK\r\nContent-", CallFailure::kBeforeHead},
      {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", CallFailure::kAfterHead},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", CallFailure::kAfterHead},
      {"SSH-2.0-x\r\n", CallFailure::kProtocol},
  };
  for (const Row& row : rows) {
    ScriptedServer server({row.script});
    Seen seen;
    Send(server.url(), seen);
    ASSERT_TRUE(Eventually([&] { return seen.Done(); })) << row.script;
    EXPECT_EQ(seen.failure, static_cast<int>(row.failure)) << row.script;
  }
}

TEST_F(HttpClientTest, AnUnreachableHostIsAConnectFailure) {
  Url nobody{.tls = false, .address = {"127.0.0.1", 1}, .base_path = ""};
  Seen refused;
  Send(nobody, refused);
  ASSERT_TRUE(Eventually([&] { return refused.Done(); }));
  EXPECT_EQ(refused.failure, static_cast<int>(CallFailure::kConnect));
  nobody.address = {"no-such-host.invalid", 80};
  Seen unknown;
  Send(nobody, unknown);
  ASSERT_TRUE(Eventually([&] { return unknown.Done(); }));
  EXPECT_EQ(unknown.failure, static_cast<int>(CallFailure::kConnect));
  nobody.tls = true;
  Seen tls;
  Send(nobody, tls);
  ASSERT_TRUE(Eventually([&] { return tls.Done(); }));
  EXPECT_EQ(tls.failure, static_cast<int>(CallFailure::kConnect));
}

TEST_F(HttpClientTest, NamesAreResolved) {
  Serve([](std::shared_ptr<HttpExchange> exchange) { exchange->Respond(200, {}, ""); });
  Url url = url_;
  url.address.host = "localhost";
  Seen seen;
  Send(url, seen);
  ASSERT_TRUE(Eventually([&] { return seen.Done(); }));
  EXPECT_EQ(seen.status, 200);
}

TEST_F(HttpClientTest, WaitsForHeadAndBodyOnlySoLong) {
  Serve([](std::shared_ptr<HttpExchange> exchange) {
    if (exchange->request().target == "/begin") exchange->Begin(200, {});
    // Kept open, unanswered, by its own callback.
    exchange->OnClose([exchange] {});
  });
  const CallOptions options{.head_timeout = milliseconds(60), .idle_timeout = milliseconds(60)};
  Seen head;
  Send(url_, head, Get(), options);
  ASSERT_TRUE(Eventually([&] { return head.Done(); }));
  EXPECT_EQ(head.failure, static_cast<int>(CallFailure::kTimeout));
  HttpRequest request = Get();
  request.target = "/begin";
  Seen body;
  Send(url_, body, request, options);
  ASSERT_TRUE(Eventually([&] { return body.Done(); }));
  EXPECT_EQ(body.status, 200);
  EXPECT_EQ(body.failure, static_cast<int>(CallFailure::kAfterHead));
}

TEST_F(HttpClientTest, DestroyingTheHandleCancelsAndThePeerSeesIt) {
  std::atomic<bool> begun{false};
  std::atomic<bool> gone{false};
  Serve([&](std::shared_ptr<HttpExchange> exchange) {
    exchange->OnClose([&, exchange] { gone = true; });
    exchange->Begin(200, {});
    exchange->Write("x");
    begun = true;
  });
  Seen seen;
  Send(url_, seen);
  ASSERT_TRUE(Eventually([&] { return seen.bytes == 1; }));
  loop_.Run([&] { call_.reset(); });
  EXPECT_TRUE(Eventually([&] { return gone.load(); }));
  EXPECT_FALSE(seen.Done());
}

TEST_F(HttpClientTest, PauseHoldsDataBackAndResumeLosesNone) {
  constexpr size_t kTotal = 32 << 20;
  std::atomic<bool> held_up{false};
  Serve([&](std::shared_ptr<HttpExchange> exchange) {
    exchange->Begin(200, {});
    auto written = std::make_shared<size_t>(0);
    auto fill = std::make_shared<std::function<void()>>();
    *fill = [&, written, raw = exchange.get()] {
      size_t queued = 0;
      while (*written < kTotal && queued <= raw->high_water()) {
        queued = raw->Write(std::string(64 << 10, 'x'));
        *written += 64 << 10;
      }
      if (*written == kTotal) raw->End();
      held_up = *written < kTotal;
    };
    exchange->OnDrain([fill] { (*fill)(); });
    (*fill)();
  });
  Seen seen;
  CallHandlers handlers = seen.Handlers();
  bool paused_once = false;
  handlers.on_data = [&](std::string_view data) {
    seen.bytes += data.size();
    if (!std::exchange(paused_once, true)) call_->Pause();
  };
  loop_.Run([&] { call_ = client_->Send(url_, Get(), {}, std::move(handlers)); });
  ASSERT_TRUE(Eventually([&] { return seen.bytes > 0; }));
  size_t while_paused = 0;
  loop_.Run([&] { while_paused = seen.bytes; });
  EXPECT_LE(while_paused, 64u << 10);
  loop_.Run([] {});
  EXPECT_EQ(seen.bytes, while_paused);
  loop_.Run([&] { call_->Resume(); });
  ASSERT_TRUE(Eventually([&] { return seen.Done(); }, seconds(30)));
  EXPECT_EQ(seen.bytes, kTotal);
}

TEST_F(HttpClientTest, ACallMayBeDestroyedFromItsOwnHandlers) {
  Serve([](std::shared_ptr<HttpExchange> exchange) {
    exchange->Respond(200, {}, std::string(100, 'x'));
  });
  for (int where = 0; where < 3; ++where) {
    std::atomic<bool> reached{false};
    CallHandlers handlers;
    const auto destroy_at = [&, where](int here) {
      if (here != where) return;
      call_.reset();
      reached = true;
    };
    handlers.on_head = [&](HttpResponseHead) { destroy_at(0); };
    handlers.on_data = [&](std::string_view) { destroy_at(1); };
    handlers.on_end = [&] { destroy_at(2); };
    loop_.Run([&] { call_ = client_->Send(url_, Get(), {}, std::move(handlers)); });
    EXPECT_TRUE(Eventually([&] { return reached.load(); })) << where;
    loop_.Run([] {});
  }
}

TEST_F(HttpClientTest, FetchCollectsUpToItsLimit) {
  Serve([](std::shared_ptr<HttpExchange> exchange) {
    exchange->Respond(200, {}, std::string(1000, 'x'));
  });
  std::atomic<int> results{0};
  Result<HttpResponse> small = Fail(Code::kInternal, "");
  Result<HttpResponse> large = Fail(Code::kInternal, "");
  loop_.Run([&] {
    client_->Fetch(url_, Get(), seconds(5), 1000, [&](Result<HttpResponse> result) {
      large = std::move(result);
      ++results;
    });
    client_->Fetch(url_, Get(), seconds(5), 999, [&](Result<HttpResponse> result) {
      small = std::move(result);
      ++results;
    });
  });
  ASSERT_TRUE(Eventually([&] { return results == 2; }));
  EXPECT_EQ(large->body.size(), 1000u);
  ASSERT_FALSE(small);
  EXPECT_EQ(small.error().code, Code::kOutOfBounds);
}

TEST_F(HttpClientTest, FetchEndsAtItsDeadline) {
  Serve([](std::shared_ptr<HttpExchange> exchange) { exchange->OnClose([exchange] {}); });
  const auto result = FetchBlocking(url_, Get(), milliseconds(50), 1000);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kTimeout);
}

TEST_F(HttpClientTest, Ipv6Works) {
  Loop loop("six");
  auto server = HttpServer::Listen(
      loop, {"::1", 0}, {},
      [](std::shared_ptr<HttpExchange> exchange) { exchange->Respond(200, {}, "six"); });
  if (!server) GTEST_SKIP() << "no IPv6 here: " << server.error().message;
  loop.Start();
  const Url url{.tls = false, .address = (*server)->address(), .base_path = ""};
  const auto result = FetchBlocking(url, Get(), seconds(5), 1000);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->body, "six");
}

TEST_F(HttpClientTest, AnEarlyAnswerToAnUploadIsRead) {
  Serve([](std::shared_ptr<HttpExchange> exchange) { exchange->Respond(200, {}, ""); },
        {.max_body_bytes = 1000});
  HttpRequest request = Get();
  request.method = "POST";
  request.body = std::string(8 << 20, 'x');
  Seen seen;
  Send(url_, seen, request);
  ASSERT_TRUE(Eventually([&] { return seen.Done(); }));
  EXPECT_EQ(seen.status, 413);
}

}  // namespace
}  // namespace warmpath::net
