#include "k8s/access_review.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "k8s/testing.h"

namespace warmpath::k8s {
namespace {

using namespace std::chrono_literals;
using codec::Json;
using testing::FakeApi;
using testing::ManualTimers;

constexpr char kTokens[] = "/apis/authentication.k8s.io/v1/tokenreviews";
constexpr char kAccess[] = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

// A server that knows two tokens: "good" may get /metrics, "known" may do nothing.
class AccessReviewTest : public ::testing::Test {
 protected:
  AccessReviewTest() {
    api_.handler = [](const ApiRequest& request) -> std::optional<Result<ApiAnswer>> {
      EXPECT_EQ(request.method, "POST");
      const Json body = codec::ParseJson(request.body).value();
      const Json& spec = *codec::Find(body, "spec");
      if (request.path == kTokens) {
        EXPECT_EQ(codec::FindString(body, "apiVersion"), "authentication.k8s.io/v1");
        EXPECT_EQ(codec::FindString(body, "kind"), "TokenReview");
        const std::string token(*codec::FindString(spec, "token"));
        if (token != "good" && token != "known") {
          return Created(R"({"user":{},"error":"[invalid bearer token]"})");
        }
        return Created(fmt::format(
            R"({{"authenticated":true,"user":{{"username":"{}-user","uid":"7","groups":["g"],
               "extra":{{"k":["v"]}}}}}})",
            token));
      }
      EXPECT_EQ(request.path, kAccess);
      EXPECT_EQ(codec::FindString(body, "apiVersion"), "authorization.k8s.io/v1");
      EXPECT_EQ(codec::FindString(body, "kind"), "SubjectAccessReview");
      EXPECT_EQ(codec::FindString(spec, "uid"), "7");
      EXPECT_EQ(codec::DumpJson(*codec::Find(spec, "groups")), R"(["g"])");
      EXPECT_EQ(codec::DumpJson(*codec::Find(spec, "extra")), R"({"k":["v"]})");
      const Json& what = *codec::Find(spec, "nonResourceAttributes");
      const bool allowed = codec::FindString(spec, "user") == "good-user" &&
                           codec::FindString(what, "path") == "/metrics" &&
                           codec::FindString(what, "verb") == "get";
      return Created(allowed ? R"({"allowed":true})" : R"({"allowed":false,"reason":"no rule"})");
    };
  }
  static ApiAnswer Created(const std::string& status) {
    return {201, {}, R"({"kind":"Review","status":)" + status + "}"};
  }

  // The number of times it was answered is checked with it.
  std::optional<Access> Ask(const std::string& token, const std::string& path = "/metrics",
                            const std::string& verb = "get") {
    int answers = 0;
    std::optional<Access> got;
    reviewer_->Check(token, verb, path, [&](Access access) {
      got = access;
      ++answers;
    });
    timers_.Settle();
    EXPECT_LE(answers, 1);
    return got;
  }

  ManualClock clock_;
  ManualTimers timers_{clock_};
  FakeApi api_{timers_};
  Registry metrics_;
  std::unique_ptr<AccessReviewer> reviewer_ = AccessReviewer::Create(api_, clock_, metrics_);
};

TEST_F(AccessReviewTest, AsksWhoItIsAndThenWhetherItMay) {
  EXPECT_EQ(Ask("good"), Access::kAllowed);
  EXPECT_EQ(api_.CountRequests(kTokens), 1u);
  EXPECT_EQ(api_.CountRequests(kAccess), 1u);
  EXPECT_EQ(Ask("good", "/api/v1/endpoints"), Access::kForbidden);
  EXPECT_EQ(Ask("good", "/metrics", "post"), Access::kForbidden);
  EXPECT_EQ(Ask("known"), Access::kForbidden);
  EXPECT_EQ(Ask("stolen"), Access::kUnauthenticated);
  const std::string text = metrics_.Render();
  EXPECT_NE(text.find("warmpath_access_reviews_total{result=\"forbidden\"} 3"), std::string::npos)
      << text;
  EXPECT_NE(text.find("warmpath_access_reviews_total{result=\"allowed\"} 1"), std::string::npos);
}

TEST_F(AccessReviewTest, WithoutATokenNobodyIsAsked) {
  EXPECT_EQ(Ask(""), Access::kUnauthenticated);
  EXPECT_EQ(Ask(std::string(64 << 10, 'x')), Access::kUnauthenticated);
  EXPECT_TRUE(api_.requests.empty());
}

TEST_F(AccessReviewTest, DecisionsAreKeptForAMinuteRefusalsForTenSeconds) {
  EXPECT_EQ(Ask("good"), Access::kAllowed);
  EXPECT_EQ(Ask("stolen"), Access::kUnauthenticated);
  EXPECT_EQ(Ask("known"), Access::kForbidden);
  const size_t asked = api_.requests.size();
  timers_.Advance(9s);
  EXPECT_EQ(Ask("good"), Access::kAllowed);
  EXPECT_EQ(Ask("stolen"), Access::kUnauthenticated);
  EXPECT_EQ(Ask("known"), Access::kForbidden);
  EXPECT_EQ(api_.requests.size(), asked);
  timers_.Advance(2s);
  EXPECT_EQ(Ask("stolen"), Access::kUnauthenticated);
  EXPECT_EQ(Ask("known"), Access::kForbidden);
  EXPECT_EQ(api_.requests.size(), asked + 2);
  timers_.Advance(50s);
  EXPECT_EQ(Ask("good"), Access::kAllowed);
  EXPECT_EQ(api_.requests.size(), asked + 4);
  timers_.Advance(30s);  // an identity is not prolonged by being asked for
  EXPECT_EQ(Ask("good", "/other"), Access::kForbidden);
  EXPECT_EQ(api_.requests.size(), asked + 5);
}

TEST_F(AccessReviewTest, ThoseWhoAskTheSameShareOneCall) {
  std::vector<Access> answers;
  for (int i = 0; i < 10; ++i) {
    reviewer_->Check("good", "get", "/metrics", [&](Access access) { answers.push_back(access); });
  }
  timers_.Settle();
  EXPECT_EQ(answers, std::vector<Access>(10, Access::kAllowed));
  EXPECT_EQ(api_.requests.size(), 2u);
}

TEST_F(AccessReviewTest, AServerThatDoesNotSayMakesItUnavailableAndIsAskedAgain) {
  LogCapture log;
  for (const int status : {FakeApi::kRefused, 403, 429, 500}) {
    api_.AddFault({.prefix = kTokens, .status = status, .times = 1});
    EXPECT_EQ(Ask("good"), Access::kUnavailable) << status;
  }
  EXPECT_EQ(Ask("good"), Access::kAllowed);
  api_.AddFault({.prefix = kAccess, .status = 403, .times = 2});
  EXPECT_EQ(Ask("good", "/1"), Access::kUnavailable);
  EXPECT_EQ(Ask("good", "/2"), Access::kUnavailable);
  EXPECT_EQ(Ask("good", "/3"), Access::kForbidden);
  const std::string text = log.text();
  const std::string line = R"({"resource": "subjectaccessreviews", "error": "403: fault 403"})";
  const size_t first = text.find(line);
  ASSERT_NE(first, std::string::npos) << text;
  EXPECT_EQ(text.find(line, first + 1), std::string::npos) << text;
  EXPECT_EQ(text.find("good"), std::string::npos) << "a token in the log";
}

TEST_F(AccessReviewTest, GarbageIsNoDecision) {
  for (const char* body : {"", "{", "[]", "{}", R"({"status":1})"}) {
    api_.handler = [body](const ApiRequest&) { return ApiAnswer{201, {}, body}; };
    EXPECT_EQ(Ask("good"), Access::kUnavailable) << body;
  }
  for (const char* status :
       {"{}", R"({"authenticated":true})", R"({"authenticated":"true","user":{"username":"u"}})",
        R"({"authenticated":true,"user":{"username":""}})"}) {
    api_.handler = [status](const ApiRequest&) { return Created(status); };
    EXPECT_EQ(Ask("good"), Access::kUnauthenticated) << status;
    timers_.Advance(11s);
  }
  api_.handler = [](const ApiRequest& request) {
    return Created(request.path == kTokens
                       ? R"({"authenticated":true,"user":{"username":"u"}})"
                       : R"({"allowed":true,"denied":true,"evaluationError":"x"})");
  };
  EXPECT_EQ(Ask("good"), Access::kForbidden);
}

TEST_F(AccessReviewTest, AFloodOfTokensIsBounded) {
  api_.AddFault({.prefix = kTokens, .status = FakeApi::kSilent});
  int unavailable = 0;
  for (int i = 0; i < 200; ++i) {
    reviewer_->Check(fmt::format("t{}", i), "get", "/metrics",
                     [&](Access access) { unavailable += access == Access::kUnavailable; });
  }
  EXPECT_EQ(unavailable, 200 - 64);
  EXPECT_EQ(api_.requests.size(), 64u);
  for (int i = 0; i < 2000; ++i) {
    reviewer_->Check("t0", "get", "/metrics",
                     [&](Access access) { unavailable += access == Access::kUnavailable; });
  }
  EXPECT_EQ(unavailable, 200 - 64 + 2000 - (1000 - 64));
}

TEST_F(AccessReviewTest, AFloodOfTokensThatAreAnsweredIsPaced) {
  auto flood = [&, token = 0]() mutable {
    int answered = 0;
    for (int i = 0; i < 200; ++i) {
      answered += Ask(fmt::format("t{}", token++)) == Access::kUnauthenticated;
    }
    return answered;
  };
  EXPECT_EQ(flood(), 64);
  EXPECT_EQ(flood(), 0);
  clock_.Advance(std::chrono::milliseconds(300));
  EXPECT_EQ(flood(), 30);
  EXPECT_EQ(api_.requests.size(), 94u);
  EXPECT_EQ(Ask("t0"), Access::kUnauthenticated) << "what is known costs no call";
  clock_.Advance(std::chrono::milliseconds(20));
  EXPECT_EQ(Ask("good"), Access::kAllowed);
}

TEST_F(AccessReviewTest, TokensThatAreKeptAreBoundedTheOldestGoFirst) {
  for (int i = 0; i < 1001; ++i) {
    Ask(fmt::format("stolen{}", i));
    clock_.Advance(std::chrono::microseconds(9500));
  }
  const size_t asked = api_.requests.size();
  EXPECT_EQ(asked, 1001u);
  Ask("stolen1000");
  Ask("stolen1");
  EXPECT_EQ(api_.requests.size(), asked);
  Ask("stolen0");
  EXPECT_EQ(api_.requests.size(), asked + 1);
}

TEST_F(AccessReviewTest, NobodyIsCalledAfterItsEnd) {
  bool called = false;
  reviewer_->Check("good", "get", "/metrics", [&](Access) { called = true; });
  reviewer_.reset();
  timers_.Settle();
  EXPECT_FALSE(called);
}

}  // namespace
}  // namespace warmpath::k8s
