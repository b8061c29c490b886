#include "k8s/reflector.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/log.h"
#include "k8s/testing.h"
#include "net/http.h"

namespace warmpath::k8s {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using testing::FakeApi;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kPods[] = "/api/v1/namespaces/ns/pods";

// Keeps what it is told as names, and the order of telling.
struct NameSink final : ObjectSink {
  static std::string NameOf(const codec::Json& object) {
    return std::string(*codec::FindString(*codec::Find(object, "metadata"), "name"));
  }
  void ListBegin() override {
    listing.emplace();
    ++lists_begun;
  }
  void Upsert(const codec::Json& object) override {
    if (listing) {
      listing->insert(NameOf(object));
    } else {
      names.insert(NameOf(object));
      ++upserts;
    }
  }
  void Delete(const codec::Json& object) override {
    names.erase(NameOf(object));
    if (on_delete) on_delete();
  }
  void ListEnd() override {
    for (const std::string& name : names) {
      if (!listing->contains(name)) gone.push_back(name);
    }
    names = *std::exchange(listing, std::nullopt);
  }
  void StatusChanged(const ReflectorStatus& status) override { states.push_back(status.state); }

  std::set<std::string> names;
  std::optional<std::set<std::string>> listing;
  std::vector<std::string> gone;  // by lists
  std::vector<KindState> states;
  int upserts = 0, lists_begun = 0;
  std::function<void()> on_delete;
};

struct ReflectorTest : ::testing::Test {
  ReflectorTest() {
    Put("a");
    Put("b");
  }
  void Put(const std::string& name) {
    api.Put(kPods, fmt::format(R"({{"metadata":{{"name":"{}"}}}})", name));
  }
  std::unique_ptr<Reflector> Make(uint64_t seed = 1) {
    return Reflector::Create(api, timers, clock, metrics, {"pods", kPods, label_selector, ""}, sink,
                             seed);
  }
  void Start() {
    reflector = Make();
    reflector->Start();
    timers.Settle();
  }
  KindState state() const { return reflector->status().state; }
  const std::string& last_path() const { return api.requests.back().path; }
  std::string last(std::string_view key) const {
    const size_t mark = last_path().find('?');
    return net::QueryParameter(std::string_view(last_path()).substr(mark + 1), key)
        .value_or("(none)");
  }
  size_t lists() const { return api.requests.size() - api.CountRequests("watch=1"); }
  size_t watch_requests() const { return api.CountRequests("watch=1"); }
  static size_t LinesOf(const LogCapture& log) {
    const std::string text = log.text();
    return static_cast<size_t>(std::ranges::count(text, '\n'));
  }

  ManualClock clock;
  testing::ManualTimers timers{clock};
  FakeApi api{timers};
  Registry metrics;
  NameSink sink;
  std::string label_selector;
  std::unique_ptr<Reflector> reflector;
};

TEST_F(ReflectorTest, ListsFromTheCacheAndWatchesFromThere) {
  label_selector = "app in (x,y)";
  Start();
  ASSERT_EQ(api.requests.size(), 2u);
  EXPECT_EQ(
      api.requests[0].path,
      std::string(kPods) + "?labelSelector=app%20in%20%28x%2Cy%29&limit=500&resourceVersion=0");
  EXPECT_EQ(last("watch"), "1");
  EXPECT_EQ(last("resourceVersion"), "102");
  EXPECT_EQ(last("allowWatchBookmarks"), "true");
  EXPECT_EQ(last("labelSelector"), "app in (x,y)");
  const int timeout = std::stoi(last("timeoutSeconds"));
  EXPECT_GE(timeout, 300);
  EXPECT_LE(timeout, 600);
  EXPECT_THAT(sink.names, ElementsAre("a", "b"));
  EXPECT_THAT(sink.states, ElementsAre(KindState::kSynced));
  EXPECT_TRUE(reflector->status().listed);
  EXPECT_EQ(reflector->status().last_contact, clock.Now());
}

TEST_F(ReflectorTest, EventsFollowOneAnother) {
  Start();
  Put("c");
  Put("a");
  api.Remove(kPods, "b");
  timers.Settle();
  EXPECT_THAT(sink.names, ElementsAre("a", "c"));
  EXPECT_EQ(sink.upserts, 2);
  EXPECT_EQ(reflector->status().events, 3u);
  EXPECT_THAT(metrics.Render(), HasSubstr("warmpath_kubernetes_events_total{kind=\"pods\"} 3"));
}

TEST_F(ReflectorTest, FollowsThePagesOfAList) {
  // Not the first list, which the server's cache answers whole.
  Start();
  for (const char* name : {"c", "d", "e"}) Put(name);
  timers.Settle();
  api.page_size = 2;
  api.Compact();
  api.EndWatches(kPods);
  timers.Advance(seconds(1));
  timers.Settle();
  EXPECT_THAT(sink.names, ElementsAre("a", "b", "c", "d", "e"));
  EXPECT_EQ(sink.lists_begun, 1);
  EXPECT_EQ(reflector->status().lists, 1u);
}

TEST_F(ReflectorTest, AnEmptyListAndNullItemsAreLists) {
  api.handler = [](const ApiRequest&) {
    return Result<ApiAnswer>(ApiAnswer{
        200, {}, R"({"kind":"PodList","metadata":{"resourceVersion":"102"},"items":null})"});
  };
  Start();
  EXPECT_EQ(state(), KindState::kSynced);
  EXPECT_THAT(sink.names, IsEmpty());
  EXPECT_EQ(last("resourceVersion"), "102");
}

TEST_F(ReflectorTest, EveryChunkSizeGivesTheSameObjects) {
  for (size_t size = 1; size < 200; ++size) {
    api.chunk_bytes = size;
    NameSink mine;
    auto one = Reflector::Create(api, timers, clock, metrics, {"pods", kPods, "", ""}, mine, 1);
    one->Start();
    timers.Settle();
    ASSERT_THAT(mine.names, ElementsAre("a", "b")) << size;
    // Braces, quotes and backslashes inside of strings, and two documents in one write.
    api.Put(kPods, R"({"metadata":{"name":"c","annotations":{"k":"}\"{[\\"}},"x":[[{}],"\\\""]})");
    api.Bookmark(kPods);
    api.Remove(kPods, "c");
    timers.Settle();
    ASSERT_EQ(one->status().events, 2u) << size;
    ASSERT_THAT(mine.names, ElementsAre("a", "b")) << size;
    ASSERT_EQ(one->status().failures, 0u);
  }
}

TEST_F(ReflectorTest, ARegularEndIsFollowedByAWatchFromTheNewestVersion) {
  Start();
  Put("c");
  timers.Advance(seconds(10));
  api.EndWatches(kPods);
  timers.Advance(milliseconds(501));
  EXPECT_EQ(watch_requests(), 2u);
  EXPECT_EQ(last("resourceVersion"), "103");
  EXPECT_EQ(lists(), 1u);
  EXPECT_THAT(sink.states, ElementsAre(KindState::kSynced));
  EXPECT_THAT(metrics.Render(),
              HasSubstr("warmpath_kubernetes_watch_restarts_total{kind=\"pods\"} 1"));
}

TEST_F(ReflectorTest, ABookmarkMovesTheVersionOn) {
  Start();
  api.Put("/api/v1/namespaces/ns/others", R"({"metadata":{"name":"z"}})");
  api.Bookmark(kPods);
  timers.Advance(seconds(5));
  api.EndWatches(kPods);
  timers.Advance(seconds(1));
  EXPECT_EQ(last("resourceVersion"), "103");
}

TEST_F(ReflectorTest, AnExpiredVersionIsListedAnewWithoutTheCache) {
  Start();
  timers.Advance(seconds(10));
  api.AddFault({.prefix = kPods, .status = 410, .times = 1, .watch = true});
  api.EndWatches(kPods);
  timers.Settle();
  api.Remove(kPods, "a");
  Put("c");
  timers.Advance(seconds(2));
  EXPECT_THAT(sink.names, ElementsAre("b", "c"));
  EXPECT_THAT(sink.gone, ElementsAre("a"));
  EXPECT_EQ(lists(), 2u);
  EXPECT_EQ(api.CountRequests("resourceVersion=0"), 1u);
  EXPECT_EQ(state(), KindState::kSynced);
  EXPECT_THAT(sink.states, ElementsAre(KindState::kSynced));  // nothing to tell
}

TEST_F(ReflectorTest, AnExpiredVersionInTheStreamIsListedAnew) {
  for (const auto& [code, reason] :
       {std::pair{410, "Expired"}, std::pair{410, "Gone"}, std::pair{0, "Expired"}}) {
    const size_t before = lists();
    if (!reflector) Start();
    api.PushError(kPods, code, reason);
    timers.Advance(seconds(30));
    EXPECT_EQ(lists(), before == 0 ? 2 : before + 1);
    EXPECT_EQ(api.watches(kPods), 1u);
    EXPECT_EQ(state(), KindState::kSynced);
  }
}

TEST_F(ReflectorTest, AVersionThatAlwaysExpiresIsNotAskedForInALoop) {
  api.AddFault({.prefix = kPods, .status = 410, .watch = true});
  Start();
  timers.Advance(minutes(5));
  EXPECT_LT(lists(), 25u);
  EXPECT_GT(lists(), 8u);
}

TEST_F(ReflectorTest, APageThatExpiresIsFollowedByAListWithoutPages) {
  api.page_size = 1;
  int expired = 0;
  api.handler = [&](const ApiRequest& request) -> std::optional<Result<ApiAnswer>> {
    if (request.path.find("continue=") == std::string::npos) {
      if (request.path.find("limit=") == std::string::npos) return std::nullopt;
      return Result<ApiAnswer>(ApiAnswer{
          200,
          {},
          R"({"metadata":{"resourceVersion":"5","continue":"t k"},"items":[{"metadata":{"name":"old"}}]})"});
    }
    EXPECT_THAT(request.path, HasSubstr("continue=t%20k"));
    ++expired;
    return Result<ApiAnswer>(ApiAnswer{410, {}, FakeApi::StatusBody(410, "Expired")});
  };
  Start();
  timers.Advance(seconds(2));
  EXPECT_EQ(expired, 1);
  EXPECT_THAT(sink.names, ElementsAre("a", "b"));  // nothing of the list that broke off
  EXPECT_EQ(state(), KindState::kSynced);
}

TEST_F(ReflectorTest, PagesWithoutEndAreGivenUp) {
  api.handler = [&](const ApiRequest&) {
    return Result<ApiAnswer>(
        ApiAnswer{200, {}, R"({"metadata":{"resourceVersion":"5","continue":"t"},"items":[]})"});
  };
  Start();
  EXPECT_EQ(api.requests.size(), 2000u);
  EXPECT_THAT(reflector->status().error, HasSubstr("more than 2000 pages"));
  EXPECT_EQ(state(), KindState::kListing);
}

TEST_F(ReflectorTest, AForbiddenKindIsAskedForSlowlyAndSaidOnce) {
  const LogCapture log;
  api.AddFault({.prefix = kPods, .status = 403});
  Start();
  EXPECT_EQ(state(), KindState::kForbidden);
  EXPECT_THAT(reflector->status().error, HasSubstr("403: fault 403"));
  timers.Advance(minutes(30));
  EXPECT_LT(api.requests.size(), 65u);
  EXPECT_GT(api.requests.size(), 29u);
  EXPECT_EQ(LinesOf(log), 1u);
  EXPECT_THAT(sink.states, ElementsAre(KindState::kForbidden));
  api.ClearFaults();
  timers.Advance(seconds(61));
  EXPECT_EQ(state(), KindState::kSynced);
  EXPECT_EQ(reflector->status().error, "");
  EXPECT_THAT(sink.names, ElementsAre("a", "b"));
  EXPECT_EQ(LinesOf(log), 2u);
}

TEST_F(ReflectorTest, AnAbsentKindIsAskedForSlowlyAndListedWhenItComes) {
  api.RemoveCollection(kPods);
  Start();
  EXPECT_EQ(state(), KindState::kAbsent);
  EXPECT_FALSE(reflector->status().listed);
  timers.Advance(minutes(10));
  EXPECT_LT(api.requests.size(), 25u);
  Put("new");
  timers.Advance(seconds(61));
  EXPECT_EQ(state(), KindState::kSynced);
  EXPECT_THAT(sink.names, ElementsAre("new"));
}

TEST_F(ReflectorTest, AKindThatGoesAndComesBackIsListedAnew) {
  Start();
  timers.Advance(seconds(10));
  api.RemoveCollection(kPods);
  api.AddCollection(kPods);
  api.AddFault({.prefix = kPods, .status = 404, .times = 1});
  api.EndWatches(kPods);
  timers.Advance(seconds(1));
  EXPECT_EQ(state(), KindState::kAbsent);
  EXPECT_THAT(sink.names, ElementsAre("a", "b"));  // what is known stays
  timers.Advance(seconds(61));
  EXPECT_EQ(state(), KindState::kSynced);
  EXPECT_THAT(sink.names, IsEmpty());
}

TEST_F(ReflectorTest, PermissionTakenFromTheWatchKeepsTheObjects) {
  Start();
  timers.Advance(seconds(10));
  api.AddFault({.prefix = kPods, .status = 403, .watch = true});
  api.EndWatches(kPods);
  timers.Advance(minutes(5));
  EXPECT_EQ(state(), KindState::kForbidden);
  EXPECT_THAT(sink.names, ElementsAre("a", "b"));
  EXPECT_THAT(sink.states, ElementsAre(KindState::kSynced, KindState::kForbidden));
  Put("c");
  api.ClearFaults();
  timers.Advance(seconds(63));
  EXPECT_EQ(state(), KindState::kSynced);
  EXPECT_THAT(sink.names, ElementsAre("a", "b", "c"));
}

TEST_F(ReflectorTest, UnauthorizedIsRetriedWithBackOff) {
  api.AddFault({.prefix = kPods, .status = 401});
  Start();
  EXPECT_EQ(state(), KindState::kListing);
  EXPECT_THAT(reflector->status().error, HasSubstr("401"));
  timers.Advance(minutes(5));
  EXPECT_LT(api.requests.size(), 30u);
  api.ClearFaults();
  timers.Advance(seconds(31));
  EXPECT_EQ(state(), KindState::kSynced);
}

TEST_F(ReflectorTest, RetryAfterIsKept) {
  for (const int status : {429, 503}) {
    api.ClearFaults();
    api.AddFault({.prefix = kPods, .status = status, .retry_after = seconds(20), .times = 1});
    const size_t before = api.requests.size();
    NameSink mine;
    auto one = Reflector::Create(api, timers, clock, metrics, {"pods", kPods, "", ""}, mine, 3);
    one->Start();
    timers.Advance(milliseconds(19'999));
    EXPECT_EQ(api.requests.size() - before, 1u) << status;
    timers.Advance(seconds(3));
    EXPECT_EQ(one->status().state, KindState::kSynced) << status;
  }
}

TEST_F(ReflectorTest, RetryAfterInTheStreamIsKept) {
  Start();
  timers.Advance(seconds(5));
  api.Push(
      kPods,
      R"({"type":"ERROR","object":{"code":429,"message":"slow down","details":{"retryAfterSeconds":9}}})"
      "\n");
  timers.Advance(milliseconds(8'900));
  EXPECT_EQ(state(), KindState::kDisconnected);
  EXPECT_EQ(reflector->status().error, "429: slow down");
  EXPECT_EQ(watch_requests(), 1u);
  timers.Advance(seconds(4));
  EXPECT_EQ(watch_requests(), 2u);
  EXPECT_EQ(lists(), 1u);
  EXPECT_EQ(state(), KindState::kSynced);
}

TEST_F(ReflectorTest, WaitsGrowFromLessThanASecondToHalfAMinute) {
  api.SetDown(true);
  Start();
  std::vector<double> waits;
  for (int i = 0; i < 12; ++i) {
    const size_t before = api.requests.size();
    const TimePoint from = clock.Now();
    while (api.requests.size() == before) timers.Advance(*timers.Next());
    waits.push_back(ToSeconds(clock.Now() - from));
    timers.Settle();
  }
  double most = 0.8;
  for (const double wait : waits) {
    EXPECT_GE(wait, most / 2 - 1e-6);
    EXPECT_LE(wait, most + 1e-6);
    most = std::min(most * 2, 30.0);
  }
  // Two clients do not come back together.
  auto other = Make(/*seed=*/2);
  other->Start();
  timers.Settle();
  EXPECT_NE(*timers.Next(), FromSeconds(waits[0]));
}

TEST_F(ReflectorTest, BackOffBeginsAnewAfterTwoGoodMinutes) {
  Start();
  for (int i = 0; i < 3; ++i) {
    timers.Advance(minutes(3));
    api.SetDown(true);
    timers.Advance(seconds(40));
    const size_t before = watch_requests();
    api.SetDown(false);
    timers.Advance(seconds(31));
    EXPECT_EQ(watch_requests(), before + 1);
    api.Bookmark(kPods);
    timers.Advance(minutes(2));
    api.BreakWatches(kPods);
    api.AddFault({.prefix = kPods, .times = 1, .watch = true});
    timers.Advance(milliseconds(1301));  // the jitter of a rewatch, and the shortest wait
    EXPECT_EQ(api.watches(kPods), 1u) << i;
    api.ClearFaults();
  }
}

TEST_F(ReflectorTest, OutagesOfFiveAndTenMinutesKeepWhatIsKnown) {
  Start();
  timers.Advance(minutes(1));
  for (const auto outage : {minutes(5), minutes(10)}) {
    const LogCapture log;
    const uint64_t failures = reflector->status().failures;
    sink.states.clear();
    api.SetDown(true);
    timers.Advance(outage);
    EXPECT_EQ(state(), KindState::kDisconnected);
    EXPECT_TRUE(reflector->status().listed);
    EXPECT_THAT(sink.names, ElementsAre("a", "b"));
    EXPECT_GT(reflector->status().failures - failures, 10u);
    EXPECT_LT(reflector->status().failures - failures, 50u);
    EXPECT_EQ(LinesOf(log), 1u);
    EXPECT_THAT(
        metrics.Render(),
        HasSubstr(fmt::format("warmpath_kubernetes_seconds_since_contact{{kind=\"pods\"}} {}",
                              ToSeconds(clock.Now() - reflector->status().last_contact))));
    api.Put(kPods, R"({"metadata":{"name":"meanwhile"}})");
    api.SetDown(false);
    timers.Advance(seconds(33));
    EXPECT_EQ(state(), KindState::kSynced);
    EXPECT_THAT(sink.names, ElementsAre("a", "b", "meanwhile"));
    EXPECT_THAT(sink.states, ElementsAre(KindState::kDisconnected, KindState::kSynced));
    EXPECT_EQ(LinesOf(log), 2u);
    api.Remove(kPods, "meanwhile");
    timers.Advance(minutes(1));
  }
  EXPECT_EQ(lists(), 1u);
}

TEST_F(ReflectorTest, AnOutageLongerThanTheServersHistoryEndsInAList) {
  Start();
  timers.Advance(minutes(1));
  api.SetDown(true);
  timers.Advance(minutes(10));
  api.Remove(kPods, "a");
  Put("c");
  api.Compact();
  api.SetDown(false);
  timers.Advance(seconds(33));
  EXPECT_THAT(sink.names, ElementsAre("b", "c"));
  EXPECT_EQ(lists(), 2u);
  EXPECT_EQ(state(), KindState::kSynced);
}

TEST_F(ReflectorTest, ACutConnectionAloneIsNotAFailure) {
  const LogCapture log;
  Start();
  timers.Advance(minutes(1));
  api.BreakWatches(kPods);
  timers.Advance(seconds(1));
  EXPECT_EQ(watch_requests(), 2u);
  EXPECT_EQ(state(), KindState::kSynced);
  EXPECT_EQ(reflector->status().failures, 0u);
  EXPECT_EQ(LinesOf(log), 1u);
}

TEST_F(ReflectorTest, AWatchThatBreaksAtOnceBacksOffAndIsSaidOnce) {
  const LogCapture log;
  Start();
  for (int i = 0; i < 600; ++i) {
    if (i % 2 == 0) {
      api.BreakWatches(kPods);
    } else {
      api.EndWatches(kPods);
    }
    timers.Advance(seconds(1));
  }
  EXPECT_LT(watch_requests(), 60u);
  EXPECT_EQ(state(), KindState::kDisconnected);
  EXPECT_EQ(LinesOf(log), 2u);
}

TEST_F(ReflectorTest, AStalledWatchIsReplaced) {
  Start();
  timers.Advance(seconds(149));
  EXPECT_EQ(watch_requests(), 1u);
  timers.Advance(seconds(2));
  EXPECT_EQ(watch_requests(), 2u);
  EXPECT_EQ(api.watches(kPods), 1u);
  EXPECT_EQ(state(), KindState::kSynced);
  // Bookmarks keep one alive until its time is over.
  const TimePoint began = clock.Now();
  const int timeout = std::stoi(last("timeoutSeconds"));
  while (watch_requests() == 2) {
    timers.Advance(seconds(1));
    if ((clock.Now() - began) / seconds(60) != (clock.Now() - began - seconds(1)) / seconds(60)) {
      api.Bookmark(kPods);
    }
  }
  EXPECT_NEAR(ToSeconds(clock.Now() - began), timeout + 30, 3);
}

TEST_F(ReflectorTest, AWatchThatTricklesIsReplacedInItsTime) {
  Start();
  const int timeout = std::stoi(last("timeoutSeconds"));
  api.Push(kPods, R"({"type":"ADDED","x":")");
  const TimePoint began = clock.Now();
  while (watch_requests() == 1) {
    api.Push(kPods, "x");
    timers.Advance(seconds(1));
  }
  EXPECT_NEAR(ToSeconds(clock.Now() - began), timeout + 30, 3);
  EXPECT_EQ(watch_requests(), 2u);
  EXPECT_EQ(state(), KindState::kSynced);
}

TEST_F(ReflectorTest, GarbageInTheWatchIsFollowedByAList) {
  const std::vector<std::string> garbage = {
      "garbage",
      "[]",
      "{\"type\":\"ADDED\",}\n",
      "{\"type\":\"ADDED\"}\n",
      R"({"type":"ADDED","object":[]})",
      R"({"type":"MODIFIED","object":{"metadata":{"name":"x"}}})",
      R"({"type":7,"object":{}})",
      std::string(1, '\0'),
      "{\"type\":\"\xff\"}",
      R"({"type":"ADDED","object":)" + std::string(100, '['),
  };
  Start();
  for (const std::string& bytes : garbage) {
    timers.Advance(minutes(3));
    const size_t before = lists();
    sink.gone.clear();
    api.Push(kPods, bytes.find("[[") == bytes.npos ? bytes : bytes + std::string(100, ']') + "}");
    api.Remove(kPods, "b");
    timers.Settle();
    EXPECT_EQ(state(), KindState::kDisconnected) << bytes;
    EXPECT_THAT(reflector->status().error, HasSubstr("malformed watch")) << bytes;
    timers.Advance(seconds(3));
    EXPECT_EQ(lists(), before + 1) << bytes;
    EXPECT_EQ(state(), KindState::kSynced) << bytes;
    EXPECT_THAT(sink.gone, ElementsAre("b")) << bytes;
    Put("b");
    timers.Settle();
    EXPECT_THAT(sink.names, ElementsAre("a", "b"));
  }
}

TEST_F(ReflectorTest, GarbageForAListKeepsWhatIsKnownAndIsRetried) {
  Start();
  timers.Advance(minutes(1));
  std::string answer;
  api.handler = [&](const ApiRequest&) { return Result<ApiAnswer>(ApiAnswer{200, {}, answer}); };
  for (const char* bytes : {"", "x", "[]", "{", "{}", "null", R"({"items":[]})",
                            R"({"metadata":{}})", R"({"metadata":{"resourceVersion":"1"}})",
                            R"({"metadata":{"resourceVersion":"1"},"items":[1]})",
                            R"({"metadata":{"resourceVersion":"1"},"items":["a"]})",
                            R"({"metadata":{"resourceVersion":"1"},"items":[[]]})",
                            R"({"metadata":{"resourceVersion":"1"},"items":[{]})",
                            R"({"metadata":{"resourceVersion":"1"},"items":{}})",
                            R"({"metadata":{"resourceVersion":"1"},"items":[{"a"}]})",
                            R"({"metadata":{"resourceVersion":"1"},"items":[]}{)",
                            R"({"metadata":{"resourceVersion":1},"items":[]})"}) {
    answer = bytes;
    const uint64_t failures = reflector->status().failures;
    api.Compact();
    api.Put(kPods, R"({"metadata":{"name":"a"}})");
    api.Compact();
    api.PushError(kPods, 410, "Gone");
    timers.Advance(seconds(40));
    EXPECT_GT(reflector->status().failures, failures) << bytes;
    EXPECT_EQ(state(), KindState::kDisconnected) << bytes;
    EXPECT_THAT(sink.names, ElementsAre("a", "b")) << bytes;
  }
  api.handler = nullptr;
  timers.Advance(seconds(40));
  EXPECT_EQ(state(), KindState::kSynced);
  EXPECT_THAT(sink.names, ElementsAre("a", "b"));
}

TEST_F(ReflectorTest, AnObjectBeyondTheBoundEndsTheWatch) {
  Start();
  timers.Advance(seconds(10));
  const std::string megabyte(1 << 20, 'x');
  api.Push(kPods, R"({"type":"ADDED","object":{"metadata":{"name":")");
  for (int i = 0; i < 8; ++i) api.Push(kPods, megabyte);
  timers.Settle();
  EXPECT_EQ(state(), KindState::kDisconnected);
  EXPECT_THAT(reflector->status().error, HasSubstr("exceeds 8388608 bytes"));
  timers.Advance(seconds(4));
  EXPECT_EQ(state(), KindState::kSynced);
}

TEST_F(ReflectorTest, EventsOfUnknownTypesArePassedOver) {
  Start();
  api.Push(kPods, R"({"type":"NEWS","object":{"metadata":{"resourceVersion":"999"}}})");
  Put("c");
  timers.Settle();
  EXPECT_THAT(sink.names, ElementsAre("a", "b", "c"));
  EXPECT_EQ(reflector->status().failures, 0u);
}

TEST_F(ReflectorTest, AServerThatDoesNotAnswerIsGivenUp) {
  api.AddFault({.prefix = kPods, .status = FakeApi::kSilent, .times = 1});
  Start();
  timers.Advance(minutes(5));
  EXPECT_EQ(state(), KindState::kListing);
  timers.Advance(seconds(1));
  EXPECT_EQ(state(), KindState::kSynced);
}

TEST_F(ReflectorTest, StopEndsItAlsoFromTheSink) {
  Start();
  sink.on_delete = [&] { reflector->Stop(); };
  api.Remove(kPods, "a");
  api.Remove(kPods, "b");
  timers.Settle();
  EXPECT_THAT(sink.names, ElementsAre("b"));
  EXPECT_EQ(api.watches(kPods), 0u);
  timers.Advance(minutes(20));
  EXPECT_EQ(api.requests.size(), 2u);
  // And it goes on where it was.
  reflector->Start();
  timers.Settle();
  EXPECT_THAT(sink.names, IsEmpty());
}

TEST_F(ReflectorTest, TheFirstListThatFailsIsSaidOnce) {
  const LogCapture log;
  api.SetDown(true);
  Start();
  timers.Advance(minutes(10));
  EXPECT_EQ(LinesOf(log), 1u);
  EXPECT_THAT(sink.states, ElementsAre(KindState::kListing));
  EXPECT_THAT(sink.names, IsEmpty());
  api.SetDown(false);
  timers.Advance(seconds(31));
  EXPECT_EQ(state(), KindState::kSynced);
  EXPECT_EQ(LinesOf(log), 2u);
}

TEST_F(ReflectorTest, WhatKeepsTheFirstListFromComingIsSaidAgainWhenItIsAnother) {
  const LogCapture log;
  api.SetDown(true);
  Start();
  timers.Advance(minutes(2));
  api.SetDown(false);
  api.AddFault({.prefix = kPods, .status = 401});
  timers.Advance(minutes(2));
  EXPECT_EQ(state(), KindState::kListing);
  EXPECT_EQ(LinesOf(log), 2u);
  EXPECT_THAT(log.text(), HasSubstr("401: fault 401"));
  EXPECT_THAT(sink.states, ElementsAre(KindState::kListing, KindState::kListing));
}

TEST_F(ReflectorTest, TheSinkIsToldEachNewReasonOfAnOutageWhichIsLoggedOnce) {
  const LogCapture log;
  Start();
  api.SetDown(true);
  timers.Advance(minutes(2));
  const size_t told = sink.states.size();
  api.SetDown(false);
  api.AddFault({.prefix = kPods, .status = 500});
  timers.Advance(minutes(2));
  EXPECT_EQ(state(), KindState::kDisconnected);
  EXPECT_EQ(sink.states.size(), told + 1);
  EXPECT_EQ(LinesOf(log), 2u);
}

}  // namespace
}  // namespace warmpath::k8s
