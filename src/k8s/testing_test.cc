#include "k8s/testing.h"

#include <gtest/gtest.h>

namespace warmpath::k8s::testing {
namespace {

constexpr char kPods[] = "/api/v1/namespaces/ns/pods";

struct Watched {
  int status = 0;
  std::string data;
  std::optional<Status> end;
  std::unique_ptr<ApiCall> call;
};

struct FakeApiTest : ::testing::Test {
  void Watch(Watched& watched, const std::string& query) {
    ApiRequest request;
    request.path = std::string(kPods) + "?watch=1" + query;
    watched.call = api.Stream(request, {[&](ApiAnswer head) { watched.status = head.status; },
                                        [&](std::string_view bytes) { watched.data += bytes; },
                                        [&](Status status) { watched.end = std::move(status); }});
  }
  std::optional<Result<ApiAnswer>> Get(const std::string& path) {
    std::optional<Result<ApiAnswer>> got;
    ApiRequest request;
    request.path = path;
    const auto call = api.Send(request, [&](Result<ApiAnswer> answer) { got = std::move(answer); });
    EXPECT_FALSE(got);
    timers.Settle();
    return got;
  }

  ManualClock clock;
  ManualTimers timers{clock};
  FakeApi api{timers};
};

TEST_F(FakeApiTest, ListsByPagesAndBySelector) {
  api.Put(kPods, R"({"metadata":{"name":"a","labels":{"app":"x"}}})");
  api.Put(kPods, R"({"metadata":{"name":"b","labels":{"app":"y"}}})");
  api.page_size = 1;
  const auto all = Get(std::string(kPods) + "?limit=500&resourceVersion=0");
  EXPECT_NE((*all)->body.find(R"("name":"b")"), std::string::npos);
  const auto first = Get(std::string(kPods) + "?limit=500");
  EXPECT_EQ((*first)->body.find(R"("name":"b")"), std::string::npos);
  EXPECT_NE((*first)->body.find(R"("continue":"102/b")"), std::string::npos);
  const auto second = Get(std::string(kPods) + "?limit=500&continue=102%2Fb");
  EXPECT_NE((*second)->body.find(R"("name":"b")"), std::string::npos);
  const auto selected = Get(std::string(kPods) + "?labelSelector=app%3Dy");
  EXPECT_EQ((*selected)->body.find(R"("name":"a")"), std::string::npos);
  EXPECT_EQ((*Get(std::string(kPods) + "/a"))->status, 200);
  EXPECT_EQ((*Get(std::string(kPods) + "/c"))->status, 404);
  EXPECT_EQ((*Get("/apis/none"))->status, 404);
}

TEST_F(FakeApiTest, AWatchSeesWhatEntersChangesAndLeavesItsSelector) {
  api.AddCollection(kPods);
  Watched watched;
  Watch(watched, "&resourceVersion=100&labelSelector=app%3Dx");
  timers.Settle();
  EXPECT_EQ(watched.status, 200);
  const auto told = [&] {
    timers.Settle();
    return std::exchange(watched.data, {}).substr(0, 16);
  };
  api.Put(kPods, R"({"metadata":{"name":"a","labels":{"app":"y"}}})");
  EXPECT_EQ(told(), "");
  api.Put(kPods, R"({"metadata":{"name":"a","labels":{"app":"x"}}})");
  EXPECT_EQ(told(), R"({"type":"ADDED",)");
  api.Put(kPods, R"({"metadata":{"name":"a","labels":{"app":"x"}}})");
  EXPECT_EQ(told(), R"({"type":"MODIFIE)");
  api.Put(kPods, R"({"metadata":{"name":"a","labels":{"app":"y"}}})");
  EXPECT_EQ(told(), R"({"type":"DELETED)");
  api.EndWatches(kPods);
  timers.Settle();
  ASSERT_TRUE(watched.end);
  EXPECT_TRUE(*watched.end);
  EXPECT_EQ(api.watches(kPods), 0u);
}

TEST_F(FakeApiTest, HistoryIsToldUntilItIsCompacted) {
  api.Put(kPods, R"({"metadata":{"name":"a"}})");
  Watched late, too_late;
  Watch(late, "&resourceVersion=100");
  timers.Settle();
  EXPECT_NE(late.data.find("ADDED"), std::string::npos);
  api.Compact();
  Watch(too_late, "&resourceVersion=100");
  timers.Settle();
  EXPECT_EQ(too_late.status, 410);
}

TEST_F(FakeApiTest, FailsOnCommand) {
  api.AddCollection(kPods);
  api.AddFault(
      {.prefix = kPods, .status = 503, .retry_after = std::chrono::seconds(7), .times = 1});
  const auto busy = Get(kPods);
  EXPECT_EQ((*busy)->status, 503);
  EXPECT_EQ((*busy)->retry_after, std::chrono::seconds(7));
  EXPECT_EQ((*Get(kPods))->status, 200);
  Watched watched;
  Watch(watched, "");
  timers.Settle();
  api.SetDown(true);
  timers.Settle();
  ASSERT_TRUE(watched.end);
  EXPECT_FALSE(*watched.end);
  EXPECT_FALSE((*Get(kPods)).has_value());
  api.SetDown(false);
  api.AddFault({.prefix = kPods, .status = FakeApi::kSilent});
  EXPECT_FALSE(Get(kPods));
}

TEST_F(FakeApiTest, NothingIsCalledAfterTheCallIsDropped) {
  api.AddCollection(kPods);
  Watched watched;
  Watch(watched, "");
  watched.call.reset();
  timers.Settle();
  EXPECT_EQ(watched.status, 0);
  EXPECT_EQ(api.watches(kPods), 0u);
}

}  // namespace
}  // namespace warmpath::k8s::testing
