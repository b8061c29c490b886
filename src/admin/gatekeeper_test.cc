#include "admin/gatekeeper.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <optional>
#include <thread>
#include <vector>

#include "codec/json.h"
#include "net/http_client.h"
#include "net/testing.h"

namespace warmpath::admin {
namespace {

using net::testing::Eventually;
using net::testing::RawClient;
using Answer = std::function<void(AdminAccess)>;

struct Question {
  std::string token, verb, path;
  Answer answer;
};

// A server whose every request passes the gate; its questions wait for the test to answer them.
class GatekeeperTest : public ::testing::Test {
 protected:
  void Start(Duration deadline = std::chrono::seconds(60)) {
    gate_ = std::make_shared<Gatekeeper>(
        loop_,
        [this](std::string token, std::string verb, std::string path, Answer answer) {
          MutexLock lock(mutex_);
          questions_.push_back({token, verb, path, std::move(answer)});
        },
        deadline);
    auto server = net::HttpServer::Listen(loop_, {"127.0.0.1", 0}, {}, [this](auto exchange) {
      gate_->Admit(exchange, [this, exchange] {
        ++passed_;
        exchange->Respond(200, {}, "secret");
      });
    });
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    loop_.Start();
  }
  ~GatekeeperTest() override {
    if (gate_) gate_->Close();
    if (server_) server_->Stop(std::chrono::seconds(1));
    server_.reset();
    loop_.Stop();
  }

  net::HttpResponse Ask(const std::string& target, net::Headers headers = {},
                        const std::string& method = "GET") {
    net::HttpRequest request;
    request.method = method;
    request.target = target;
    request.headers = std::move(headers);
    const net::Url url = *net::ParseUrl(fmt::format("http://127.0.0.1:{}", server_->port()));
    auto answer = net::FetchBlocking(url, std::move(request), std::chrono::seconds(20), 1 << 20);
    EXPECT_TRUE(answer) << answer.error().message;
    return answer ? *answer : net::HttpResponse{};
  }
  // Asks from another thread, answers the question with `access`.
  net::HttpResponse AskAndAnswer(const std::string& target, AdminAccess access,
                                 net::Headers headers = {}) {
    net::HttpResponse response;
    std::thread asker([&] { response = Ask(target, std::move(headers)); });
    NextQuestion().answer(access);
    asker.join();
    return response;
  }
  Question NextQuestion() {
    Question next;
    EXPECT_TRUE(Eventually([&] {
      MutexLock lock(mutex_);
      if (questions_.empty()) return false;
      next = std::move(questions_.front());
      questions_.erase(questions_.begin());
      return true;
    }));
    return next;
  }
  static std::string CodeOf(const net::HttpResponse& answer) {
    EXPECT_EQ(answer.headers.Get("content-type"), "application/json");
    const auto json = codec::ParseJson(answer.body);
    const codec::Json* error = json ? codec::Find(*json, "error") : nullptr;
    EXPECT_NE(error, nullptr) << answer.body;
    return error ? std::string(codec::FindString(*error, "code").value_or("")) : "";
  }

  net::Loop loop_{"gate"};
  Mutex mutex_;
  std::vector<Question> questions_ GUARDED_BY(mutex_);
  std::atomic<int> passed_{0};
  std::shared_ptr<Gatekeeper> gate_;
  std::unique_ptr<net::HttpServer> server_;
};

TEST_F(GatekeeperTest, TheAnswerDecides) {
  Start();
  EXPECT_EQ(AskAndAnswer("/metrics", AdminAccess::kAllowed).body, "secret");
  const auto unknown = AskAndAnswer("/metrics", AdminAccess::kUnauthenticated);
  EXPECT_EQ(unknown.status, 401);
  EXPECT_EQ(unknown.headers.Get("www-authenticate"), "Bearer");
  EXPECT_EQ(CodeOf(unknown), "unauthenticated");
  const auto forbidden = AskAndAnswer("/metrics", AdminAccess::kForbidden);
  EXPECT_EQ(forbidden.status, 403);
  EXPECT_FALSE(forbidden.headers.Get("www-authenticate"));
  EXPECT_EQ(CodeOf(forbidden), "forbidden");
  const auto unavailable = AskAndAnswer("/metrics", AdminAccess::kUnavailable);
  EXPECT_EQ(unavailable.status, 503);
  EXPECT_EQ(unavailable.headers.Get("retry-after"), "1");
  EXPECT_EQ(CodeOf(unavailable), "authorization_unavailable");
  EXPECT_EQ(passed_, 1);
}

TEST_F(GatekeeperTest, AsksWithTokenVerbAndPath) {
  Start();
  std::thread asker([&] {
    Ask("/api/v1/explain?path=/v1/completions", {{"authorization", "bearer  abc.def "}}, "POST");
  });
  const Question question = NextQuestion();
  EXPECT_EQ(question.token, "abc.def");
  EXPECT_EQ(question.verb, "post");
  EXPECT_EQ(question.path, "/api/v1/explain");
  question.answer(AdminAccess::kAllowed);
  asker.join();
}

TEST_F(GatekeeperTest, ProbesAreNotAskedAbout) {
  Start();
  EXPECT_EQ(Ask("/healthz").status, 200);
  EXPECT_EQ(Ask("/readyz?verbose=1").status, 200);
}

TEST_F(GatekeeperTest, OthersAreServedWhileAnAnswerIsPending) {
  Start();
  RawClient waiting(server_->port());
  ASSERT_TRUE(waiting.Send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
  const Question slow = NextQuestion();
  EXPECT_EQ(Ask("/healthz").status, 200);
  EXPECT_EQ(AskAndAnswer("/metrics", AdminAccess::kAllowed).status, 200);
  EXPECT_EQ(passed_, 2);
  slow.answer(AdminAccess::kAllowed);
  EXPECT_TRUE(Eventually([&] { return passed_ == 3; }));
}

TEST_F(GatekeeperTest, ASecondAnswerIsIgnored) {
  Start();
  std::thread asker([&] { EXPECT_EQ(Ask("/metrics").status, 401); });
  const Question question = NextQuestion();
  question.answer(AdminAccess::kUnauthenticated);
  question.answer(AdminAccess::kAllowed);
  asker.join();
  loop_.Run([] {});
  EXPECT_EQ(passed_, 0);
}

TEST_F(GatekeeperTest, NoAnswerInTimeIsUnavailableAndALateOneTooLate) {
  Start(std::chrono::milliseconds(20));
  EXPECT_EQ(Ask("/metrics").status, 503);
  NextQuestion().answer(AdminAccess::kAllowed);
  loop_.Run([] {});
  EXPECT_EQ(passed_, 0);
}

TEST_F(GatekeeperTest, ClientsThatGoAwayAreForgotten) {
  Start();
  Question question;
  {
    RawClient leaving(server_->port());
    ASSERT_TRUE(leaving.Send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
    question = NextQuestion();
  }
  EXPECT_TRUE(Eventually([&] { return server_->connections() == 0; }));
  question.answer(AdminAccess::kAllowed);
  loop_.Run([] {});
  EXPECT_EQ(passed_, 0);
}

TEST_F(GatekeeperTest, TheEndAnswersWhoeverWaitsAndAnswersMayComeAfterIt) {
  Start();
  std::thread asker([&] { EXPECT_EQ(Ask("/metrics").status, 503); });
  const Question question = NextQuestion();
  gate_->Close();
  asker.join();
  EXPECT_EQ(Ask("/metrics").status, 503) << "nobody passes any more";
  question.answer(AdminAccess::kAllowed);
  gate_.reset();
  question.answer(AdminAccess::kAllowed);
  EXPECT_EQ(passed_, 0);
}

TEST(BearerTokens, AreTakenFromTheOneAuthorizationHeader) {
  const auto of = [](net::Headers headers) { return BearerToken(headers); };
  EXPECT_EQ(of({{"Authorization", "Bearer t"}}), "t");
  EXPECT_EQ(of({{"authorization", "BEARER t"}}), "t");
  EXPECT_EQ(of({}), "");
  EXPECT_EQ(of({{"Authorization", "t"}}), "");
  EXPECT_EQ(of({{"Authorization", "Bearer"}}), "");
  EXPECT_EQ(of({{"Authorization", "Bearer "}}), "");
  EXPECT_EQ(of({{"Authorization", "Basic dTpw"}}), "");
  EXPECT_EQ(of({{"Authorization", "Bearer a"}, {"Authorization", "Bearer b"}}), "");
}

}  // namespace
}  // namespace warmpath::admin
