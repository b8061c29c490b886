// The client on sockets: TLS, credentials and their rotation, streams as slow servers send them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <set>

#include "base/mutex.h"
#include "k8s/api.h"
#include "k8s/reflector.h"
#include "net/http_server.h"
#include "net/testing.h"
#include "net/tls.h"
#include "net/tls_testing.h"

namespace warmpath::k8s {
namespace {

using net::testing::Eventually;
using net::testing::OtherAuthority;
using net::testing::TestAuthority;
using net::testing::TestDirectory;
using net::testing::TestServer;
using net::testing::WriteIdentity;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Exchange = std::shared_ptr<net::HttpExchange>;

class HttpApiTest : public ::testing::Test {
 protected:
  HttpApiTest() { loop_.Start(); }
  ~HttpApiTest() override {
    loop_.Run([this] {
      calls_.clear();
      reflector_.reset();
      timers_.reset();
      api_.reset();
    });
    if (server_) server_->Stop(milliseconds(0));
  }

  void Serve(net::HttpServer::Handler handler, const std::string& names = "",
             bool demand_certificate = false) {
    net::HttpServerOptions options;
    if (tls_) {
      net::TlsServerOptions tls;
      tls.cert_dir = names.empty()
                         ? WriteIdentity(directory_, "server", TestServer())
                         : WriteIdentity(directory_, "server", TestAuthority().Issue(names));
      if (demand_certificate) {
        tls.client_ca_file = directory_.Write("clients.crt", TestAuthority().pem());
      }
      options.tls = net::TlsContext::Server(tls).value();
    }
    server_ = net::HttpServer::Listen(server_loop_, {"127.0.0.1", 0}, std::move(options),
                                      [this, handler](Exchange exchange) {
                                        {
                                          MutexLock lock(mutex_);
                                          seen_.push_back(exchange->request());
                                        }
                                        handler(std::move(exchange));
                                      })
                  .value();
    server_loop_.Start();
    config_.server = {.tls = tls_, .address = server_->address(), .base_path = "/base"};
    config_.source = "test";
    if (tls_ && config_.ca_file.empty()) config_.ca_pem = TestAuthority().pem();
  }
  static net::HttpServer::Handler Say(int status, std::string body, net::Headers headers = {}) {
    return [=](const Exchange& exchange) { exchange->Respond(status, headers, body); };
  }

  // Made on first use.
  Api& TheApi() {
    if (!api_) {
      loop_.Run([this] {
        auto made = MakeApi(loop_, config_, metrics_, clock_);
        ASSERT_TRUE(made) << made.error().message;
        api_ = std::move(*made);
      });
    }
    return *api_;
  }
  std::string MakeError() {
    std::string error;
    loop_.Run([&] {
      const auto made = MakeApi(loop_, config_, metrics_, clock_);
      if (!made) error = made.error().message;
    });
    return error;
  }
  Result<ApiAnswer> Send(ApiRequest request) {
    Api& api = TheApi();
    auto result = std::make_shared<std::optional<Result<ApiAnswer>>>();
    loop_.Run([&] {
      calls_.push_back(api.Send(std::move(request), [result](Result<ApiAnswer> answer) {
        EXPECT_FALSE(*result);
        *result = std::move(answer);
      }));
    });
    EXPECT_TRUE(Eventually([&] {
      bool done = false;
      loop_.Run([&] { done = result->has_value(); });
      return done;
    }));
    return result->value_or(Fail(Code::kInternal, "no answer"));
  }
  Result<ApiAnswer> Get(std::string path = "/version") {
    ApiRequest request;
    request.path = std::move(path);
    return Send(std::move(request));
  }
  std::string GetError() {
    const auto answer = Get();
    EXPECT_FALSE(answer);
    return answer ? "" : answer.error().message;
  }

  struct Streamed {
    std::vector<ApiAnswer> heads;
    std::string data;
    std::vector<Status> ends;
  };
  std::shared_ptr<Streamed> Stream(ApiRequest request = {}) {
    Api& api = TheApi();
    if (request.path.empty()) request.path = "/watch";
    auto streamed = std::make_shared<Streamed>();
    loop_.Run([&] {
      calls_.push_back(
          api.Stream(std::move(request),
                     {[streamed](ApiAnswer head) { streamed->heads.push_back(std::move(head)); },
                      [streamed](std::string_view bytes) { streamed->data += bytes; },
                      [streamed](Status end) { streamed->ends.push_back(std::move(end)); }}));
    });
    return streamed;
  }
  bool Ended(const std::shared_ptr<Streamed>& streamed) {
    return Eventually([&] {
      bool ended = false;
      loop_.Run([&] { ended = !streamed->ends.empty(); });
      return ended;
    });
  }
  std::vector<net::HttpRequest> seen() {
    MutexLock lock(mutex_);
    return seen_;
  }
  std::string SeenToken(size_t i) {
    return std::string(seen().at(i).headers.Get("Authorization").value_or("(none)"));
  }

  TestDirectory directory_;
  bool tls_ = true;
  ManualClock clock_;
  Registry metrics_;
  ClusterConfig config_;
  Mutex mutex_;
  std::vector<net::HttpRequest> seen_ GUARDED_BY(mutex_);
  net::Loop server_loop_{"server"};
  net::Loop loop_{"client"};
  std::unique_ptr<net::HttpServer> server_;
  std::unique_ptr<Api> api_;
  std::unique_ptr<Timers> timers_;
  std::unique_ptr<Reflector> reflector_;
  std::vector<std::unique_ptr<ApiCall>> calls_;
};

TEST_F(HttpApiTest, RequestsCarryTheTokenOverVerifiedTls) {
  config_.token = "secret";
  Serve(Say(200, "{}"));
  const auto answer = Get("/version?x=1");
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(answer->body, "{}");
  const net::HttpRequest request = seen().at(0);
  EXPECT_EQ(request.target, "/base/version?x=1");
  EXPECT_EQ(SeenToken(0), "Bearer secret");
  EXPECT_THAT(std::string(*request.headers.Get("User-Agent")), HasSubstr("warmpath/"));
  EXPECT_EQ(request.headers.Get("Accept"), "application/json");
  EXPECT_FALSE(request.headers.Get("Accept-Encoding"));
  EXPECT_THAT(metrics_.Render(), HasSubstr("warmpath_kubernetes_requests_total{code=\"2xx\"} 1"));
}

TEST_F(HttpApiTest, BodiesAreSentAsJson) {
  Serve(Say(201, "{\"kind\":\"Lease\"}"));
  ApiRequest request;
  request.method = "POST";
  request.path = "/leases";
  request.body = "{\"a\":1}";
  EXPECT_EQ(Send(request)->status, 201);
  EXPECT_EQ(seen().at(0).body, "{\"a\":1}");
  EXPECT_EQ(seen().at(0).headers.Get("Content-Type"), "application/json");
  EXPECT_EQ(SeenToken(0), "(none)");
}

TEST_F(HttpApiTest, AServerOfAnotherAuthorityIsRefusedUntilItsAuthorityIsThere) {
  config_.ca_file = directory_.Write("ca.crt", OtherAuthority().pem());
  Serve(Say(200, "{}"));
  EXPECT_THAT(GetError(), HasSubstr("certificate is not accepted"));
  EXPECT_TRUE(seen().empty());
  EXPECT_THAT(metrics_.Render(), HasSubstr("warmpath_kubernetes_requests_total{code=\"error\"} 1"));
  directory_.Write("ca.crt", TestAuthority().pem());
  EXPECT_FALSE(Get());  // which makes it read the file again
  EXPECT_TRUE(Get());
}

TEST_F(HttpApiTest, AServerWithoutVerificationIsTakenWhenToldSo) {
  Serve(Say(200, "{}"));
  config_.ca_pem.clear();
  config_.verify = false;
  EXPECT_TRUE(Get());
}

TEST_F(HttpApiTest, TheNameToVerifyMayBeAnother) {
  Serve(Say(200, "{}"), "DNS:api.test");
  EXPECT_THAT(GetError(), HasSubstr("certificate is not accepted"));
  config_.tls_server_name = "api.test";
  loop_.Run([&] { api_.reset(); });
  EXPECT_TRUE(Get());
}

TEST_F(HttpApiTest, AClientCertificateIsShown) {
  const net::testing::Identity mine = TestAuthority().Issue("DNS:me", /*client=*/true);
  Serve(Say(200, "{}"), "", /*demand_certificate=*/true);
  EXPECT_FALSE(Get());
  config_.cert_pem = mine.cert_pem();
  config_.key_pem = mine.key_pem();
  loop_.Run([&] { api_.reset(); });
  EXPECT_TRUE(Get());
  config_.cert_pem.clear();
  config_.key_pem.clear();
  config_.cert_file = directory_.Write("me.crt", mine.cert_pem());
  config_.key_file = directory_.Write("me.key", mine.key_pem());
  loop_.Run([&] { api_.reset(); });
  EXPECT_TRUE(Get());
  // One that is no good is replaced while we run.
  const net::testing::Identity other = OtherAuthority().Issue("DNS:me", /*client=*/true);
  directory_.Write("me.crt", other.cert_pem());
  directory_.Write("me.key", other.key_pem());
  loop_.Run([&] { api_.reset(); });
  EXPECT_FALSE(Get());
  directory_.Write("me.crt", mine.cert_pem());
  directory_.Write("me.key", mine.key_pem());
  EXPECT_FALSE(Get());  // which makes it read the files again
  EXPECT_TRUE(Get());
}

TEST_F(HttpApiTest, WhatIsConfiguredWrongIsSaidWhenItIsMade) {
  config_.server = {.tls = true, .address = {"127.0.0.1", 1}, .base_path = ""};
  config_.source = "here";
  config_.ca_pem = "no certificate";
  EXPECT_THAT(MakeError(), HasSubstr("here: the authorities' certificates: no certificate"));
  config_.ca_pem = TestAuthority().pem();
  config_.token_file = directory_.Path("missing");
  EXPECT_THAT(MakeError(), HasSubstr("missing: No such file"));
  config_.token_file = directory_.Write("token", "two\nlines");
  EXPECT_THAT(MakeError(), HasSubstr("token: no bearer token"));
  config_.token_file.clear();
  config_.token = "a b";
  EXPECT_EQ(MakeError(), "here: no bearer token");
}

TEST_F(HttpApiTest, ATokenThatIsRotatedIsReadAgainWithinAMinute) {
  config_.token_file = directory_.Write("token", "first\n");
  Serve(Say(200, "{}"));
  EXPECT_TRUE(Get());
  directory_.Write("token", "second");
  clock_.Advance(seconds(59));
  EXPECT_TRUE(Get());
  clock_.Advance(seconds(1));
  EXPECT_TRUE(Get());
  // A file that is gone leaves the last one.
  std::filesystem::remove(directory_.Path("token"));
  clock_.Advance(seconds(61));
  EXPECT_TRUE(Get());
  EXPECT_EQ(SeenToken(0), "Bearer first");
  EXPECT_EQ(SeenToken(1), "Bearer first");
  EXPECT_EQ(SeenToken(2), "Bearer second");
  EXPECT_EQ(SeenToken(3), "Bearer second");
}

TEST_F(HttpApiTest, UnauthorizedReadsTheTokenAgainAndTriesOnceMore) {
  config_.token_file = directory_.Write("token", "old");
  config_.ca_file = directory_.Write("ca.crt", TestAuthority().pem());
  Serve([this](const Exchange& exchange) {
    const bool current = exchange->request().headers.Get("Authorization") == "Bearer new";
    if (!current) directory_.Write("token", "new");
    exchange->Respond(current ? 200 : 401, {}, current ? "welcome" : "{\"message\":\"expired\"}");
  });
  const auto answer = Get();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(answer->body, "welcome");
  EXPECT_EQ(seen().size(), 2u);
  EXPECT_THAT(metrics_.Render(), HasSubstr("warmpath_kubernetes_requests_total{code=\"4xx\"} 1"));
}

TEST_F(HttpApiTest, UnauthorizedTwiceIsTheAnswer) {
  config_.token_file = directory_.Write("token", "bad");
  Serve(Say(401, R"({"message":"Unauthorized"})"));
  const auto answer = Get();
  ASSERT_TRUE(answer);
  EXPECT_EQ(AnswerError(*answer), "401: Unauthorized");
  EXPECT_EQ(seen().size(), 2u);
  const auto streamed = Stream();
  ASSERT_TRUE(Ended(streamed));
  ASSERT_EQ(streamed->heads.size(), 1u);
  EXPECT_EQ(streamed->heads[0].status, 401);
  EXPECT_EQ(seen().size(), 4u);
}

TEST_F(HttpApiTest, ATokenGivenAsTextIsNotTriedAgain) {
  config_.token = "bad";
  Serve(Say(401, ""));
  EXPECT_EQ(Get()->status, 401);
  EXPECT_EQ(seen().size(), 1u);
}

TEST_F(HttpApiTest, RetryAfterIsToldInSeconds) {
  tls_ = false;
  std::atomic<int> asked{0};
  Serve([&](const Exchange& exchange) {
    const char* values[] = {"7", "soon", "-1", "99999999999"};
    exchange->Respond(429, {{"Retry-After", values[asked++]}}, "{}");
  });
  EXPECT_EQ(Get()->retry_after, seconds(7));
  EXPECT_EQ(Get()->retry_after, seconds(0));
  EXPECT_EQ(Get()->retry_after, seconds(0));
  EXPECT_EQ(Get()->retry_after, seconds(86'400));
}

TEST_F(HttpApiTest, AnAnswerBeyondItsBoundIsAnError) {
  tls_ = false;
  Serve(Say(200, std::string(1000, 'x')));
  ApiRequest request;
  request.path = "/x";
  request.max_body = 999;
  const auto answer = Send(request);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, Code::kOutOfBounds);
  request.max_body = 1000;
  EXPECT_TRUE(Send(request));
}

TEST_F(HttpApiTest, ARefusedStreamComesWithItsBodyAndEnds) {
  tls_ = false;
  Serve(Say(403, R"({"message":"pods is forbidden"})" + std::string(100'000, ' ')));
  const auto streamed = Stream();
  ASSERT_TRUE(Ended(streamed));
  ASSERT_EQ(streamed->heads.size(), 1u);
  EXPECT_EQ(AnswerError(streamed->heads[0]), "403: pods is forbidden");
  EXPECT_EQ(streamed->heads[0].body.size(), 64u << 10);
  EXPECT_EQ(streamed->data, "");
  EXPECT_TRUE(streamed->ends.at(0));
}

TEST_F(HttpApiTest, ARefusalWithoutEndIsNotReadOn) {
  tls_ = false;
  Serve([](const Exchange& exchange) {
    exchange->Begin(503, {});
    exchange->Write(std::string(100'000, ' '));
  });
  const auto streamed = Stream();
  ASSERT_TRUE(Ended(streamed));
  ASSERT_EQ(streamed->heads.size(), 1u);
  EXPECT_EQ(streamed->heads[0].status, 503);
}

TEST_F(HttpApiTest, AStreamThatIsCutEndsWithAnError) {
  Serve([](const Exchange& exchange) {
    exchange->Begin(200, {});
    exchange->Write("{\"type\":");
    exchange->Abort();
  });
  const auto streamed = Stream();
  ASSERT_TRUE(Ended(streamed));
  EXPECT_FALSE(streamed->ends.at(0));
}

TEST_F(HttpApiTest, AStreamThatIsSilentEndsWithAnError) {
  tls_ = false;
  Serve([](const Exchange& exchange) {
    exchange->Begin(200, {});
    exchange->Write("{");
  });
  ApiRequest request;
  request.path = "/watch";
  request.idle_timeout = milliseconds(20);
  const auto streamed = Stream(request);
  ASSERT_TRUE(Ended(streamed));
  EXPECT_EQ(streamed->data, "{");
  EXPECT_EQ(streamed->ends.at(0).error().code, Code::kTimeout);
}

TEST_F(HttpApiTest, NobodyThereIsAnError) {
  config_.server = {.tls = false, .address = {"127.0.0.1", 1}, .base_path = ""};
  const auto streamed = Stream();
  ASSERT_TRUE(Ended(streamed));
  EXPECT_TRUE(streamed->heads.empty());
  EXPECT_THAT(streamed->ends.at(0).error().message, HasSubstr("cannot connect to 127.0.0.1:1"));
}

TEST_F(HttpApiTest, ACallMayBeDroppedInsideEachOfItsHandlers) {
  tls_ = false;
  Serve([](const Exchange& exchange) {
    if (exchange->request().target.find("refuse") != std::string::npos) {
      exchange->Respond(404, {}, "{}");
      return;
    }
    exchange->Begin(200, {});
    exchange->Write("data");
    exchange->End();
  });
  Api& api = TheApi();
  std::atomic<int> dropped{0}, late{0};
  for (const char* path : {"/fine", "/refuse"}) {
    for (int at = 0; at < 3; ++at) {
      if (std::string_view(path) == "/refuse" && at == 1) continue;  // it has no data
      const int before = dropped;
      loop_.Run([&] {
        auto slot = std::make_shared<std::unique_ptr<ApiCall>>();
        const auto handle = [slot, at, &dropped, &late,
                             gone = std::make_shared<bool>(false)](int me) {
          if (*gone) ++late;
          if (me != at) return;
          *gone = true;
          slot->reset();
          ++dropped;
        };
        ApiRequest request;
        request.path = path;
        *slot = api.Stream(request, {[handle](const ApiAnswer&) { handle(0); },
                                     [handle](std::string_view) { handle(1); },
                                     [handle](const Status&) { handle(2); }});
        calls_.push_back(api.Send(request, [](const Result<ApiAnswer>&) {}));
      });
      EXPECT_TRUE(Eventually([&] { return dropped > before; })) << path << at;
    }
  }
  EXPECT_EQ(late, 0);
}

TEST_F(HttpApiTest, TimersFireUnlessTheyAreDropped) {
  loop_.Run([&] { timers_ = MakeTimers(loop_); });
  std::atomic<int> fired{0};
  std::shared_ptr<void> kept, dropped;
  loop_.Run([&] {
    dropped = timers_->After(milliseconds(1), [&] { fired += 100; });
    kept = timers_->After(milliseconds(2), [&] {
      kept = timers_->After(milliseconds(1), [&] { ++fired; });  // drops the one that runs
      ++fired;
    });
    dropped.reset();
  });
  EXPECT_TRUE(Eventually([&] { return fired == 2; }));
  loop_.Run([&] { kept.reset(); });
  EXPECT_EQ(fired, 2);
}

struct NameSink final : ObjectSink {
  void ListBegin() override { names.clear(); }
  void Upsert(const codec::Json& object) override { names.insert(Name(object)); }
  void Delete(const codec::Json& object) override { names.erase(Name(object)); }
  void ListEnd() override {}
  void StatusChanged(const ReflectorStatus& status) override { state = status.state; }
  static std::string Name(const codec::Json& object) {
    return std::string(*codec::FindString(*codec::Find(object, "metadata"), "name"));
  }
  std::set<std::string> names;
  KindState state = KindState::kListing;
};

// Writes `text` a few bytes at a time, each in a chunk and a turn of its own.
void WriteSlowly(const Exchange& exchange, std::string text, std::function<void()> done) {
  struct Writer {
    Exchange exchange;
    std::string text;
    std::function<void()> done;
    size_t at = 0;
    net::Timer timer;
  };
  auto writer = std::make_shared<Writer>(Writer{exchange, std::move(text), std::move(done), 0, {}});
  auto step = std::make_shared<std::function<void()>>();
  *step = [writer, weak = std::weak_ptr(step)] {
    const auto self = weak.lock();
    if (writer->exchange->closed()) return;
    if (writer->at >= writer->text.size()) {
      if (writer->done) writer->done();
      return;
    }
    writer->exchange->Write(writer->text.substr(writer->at, 3));
    writer->at += 3;
    writer->timer =
        writer->exchange->loop().After(std::chrono::microseconds(200), [self] { (*self)(); });
  };
  (*step)();
}

TEST_F(HttpApiTest, AReflectorFollowsAServerThatStreamsSlowly) {
  config_.token_file = directory_.Write("token", "t1");
  std::atomic<int> watches{0};
  Serve([&](const Exchange& exchange) {
    exchange->Begin(200, {{"Content-Type", "application/json"}});
    if (exchange->request().target.find("watch=1") == std::string::npos) {
      WriteSlowly(exchange,
                  R"({"kind":"PodList","items":[{"metadata":{"name":"a"}},)"
                  R"({"metadata":{"name":"b"}}],"metadata":{"resourceVersion":"5"}})",
                  [exchange] { exchange->End(); });
      return;
    }
    ++watches;
    WriteSlowly(exchange,
                R"({"type":"ADDED","object":{"metadata":{"name":"c","resourceVersion":"6"}}})"
                "\n"
                R"({"type":"DELETED","object":{"metadata":{"name":"a","resourceVersion":"7"}}})"
                "\n"
                R"({"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}})"
                "\n",
                nullptr);
  });
  Api& api = TheApi();
  NameSink sink;
  loop_.Run([&] {
    timers_ = MakeTimers(loop_);
    reflector_ = Reflector::Create(api, *timers_, SystemClock(), metrics_,
                                   {"pods", "/pods", "", ""}, sink, 1);
    reflector_->Start();
  });
  std::set<std::string> names;
  EXPECT_TRUE(Eventually([&] {
    loop_.Run([&] { names = sink.names; });
    return names == std::set<std::string>{"b", "c"};
  })) << ::testing::PrintToString(names);
  EXPECT_EQ(watches, 1);
  loop_.Run([&] {
    EXPECT_EQ(sink.state, KindState::kSynced);
    EXPECT_EQ(reflector_->status().failures, 0u) << reflector_->status().error;
    reflector_.reset();
  });
  EXPECT_THAT(seen().at(1).target, HasSubstr("/base/pods?watch=1&resourceVersion=5&"));
}

}  // namespace
}  // namespace warmpath::k8s
