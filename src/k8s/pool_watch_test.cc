#include "k8s/pool_watch.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/log.h"
#include "k8s/testing.h"

namespace warmpath::k8s {
namespace {

using namespace std::chrono_literals;
using testing::FakeApi;
using testing::ManualTimers;

constexpr char kPods[] = "/api/v1/namespaces/ns/pods";
constexpr char kPoolsV1[] = "/apis/inference.networking.k8s.io/v1/namespaces/ns/inferencepools";
constexpr char kPoolsV1alpha2[] =
    "/apis/inference.networking.x-k8s.io/v1alpha2/namespaces/ns/inferencepools";
constexpr char kObjectives[] = "/apis/llm-d.ai/v1alpha2/namespaces/ns/inferenceobjectives";
constexpr char kOldObjectives[] =
    "/apis/inference.networking.x-k8s.io/v1alpha2/namespaces/ns/inferenceobjectives";
constexpr char kRewrites[] = "/apis/llm-d.ai/v1alpha2/namespaces/ns/inferencemodelrewrites";

struct PodText {
  std::string name;
  std::string ip = "10.0.0.1";
  std::string app = "vllm";
  bool ready = true;
  bool deleting = false;
  int restarts = 0;
  std::string uid{};

  std::string text() const {
    return fmt::format(
        R"({{"metadata":{{"name":"{}","namespace":"ns","uid":"{}","labels":{{"app":"{}"}}{}}},)"
        R"("status":{{"podIP":"{}","conditions":[{{"type":"Ready","status":"{}"}}],)"
        R"("containerStatuses":[{{"restartCount":{}}}]}}}})",
        name, uid.empty() ? "u-" + name : uid, app,
        deleting ? R"(,"deletionTimestamp":"2026-01-31T08:00:00Z")" : "", ip,
        ready ? "True" : "False", restarts);
  }
};

std::string PoolText(const std::string& app = "vllm",
                     const std::string& ports = R"({"number":8000})",
                     const std::string& metadata = "") {
  return fmt::format(
      R"({{"metadata":{{"name":"pool"{}}},"spec":{{"selector":{{"matchLabels":{{"app":"{}"}}}},)"
      R"("targetPorts":[{}]}}}})",
      metadata, app, ports);
}

std::string OldPoolText(const std::string& app = "vllm") {
  return fmt::format(
      R"({{"metadata":{{"name":"pool"}},"spec":{{"selector":{{"app":"{}"}},"targetPortNumber":8000}}}})",
      app);
}

std::string ObjectiveText(const std::string& name, int priority, const std::string& pool = "pool",
                          const std::string& group = "inference.networking.k8s.io") {
  return fmt::format(
      R"({{"metadata":{{"name":"{}"}},"spec":{{"poolRef":{{"name":"{}","group":"{}"}},"priority":{}}}}})",
      name, pool, group, priority);
}

class PoolWatchTest : public ::testing::Test {
 protected:
  PoolWatchTest() {
    for (const char* path :
         {kPods, kPoolsV1, kPoolsV1alpha2, kObjectives, kOldObjectives, kRewrites})
      api_.AddCollection(path);
    options_.ns = "ns";
    options_.pool_name = "pool";
  }

  void Start() {
    auto made = PoolWatch::Create(api_, timers_, clock_, registry_, options_, [this](auto view) {
      ++told_;
      last_ = std::move(view);
    });
    ASSERT_TRUE(made) << made.error().message;
    watch_ = std::move(*made);
    watch_->Start();
    timers_.Advance(3s);
  }
  void StartWithPods() {
    api_.Put(kPoolsV1, PoolText());
    api_.Put(kPods, PodText{"a", "10.0.0.1"}.text());
    api_.Put(kPods, PodText{"b", "10.0.0.2"}.text());
    Start();
    ASSERT_EQ(Names(), "a b");
  }
  const PoolView& View() const { return *watch_->view(); }
  std::string Names() const {
    std::string out;
    for (const auto& pod : View().pods) out += (out.empty() ? "" : " ") + pod->meta.name;
    return out;
  }
  KindState StateOf(std::string_view kind) const {
    for (const auto& status : View().kinds) {
      if (status.kind == kind) return status.status.state;
    }
    ADD_FAILURE() << kind << " is not watched";
    return KindState::kListing;
  }

  LogCapture log_;
  ManualClock clock_;
  ManualTimers timers_{clock_};
  FakeApi api_{timers_};
  Registry registry_;
  PoolWatchOptions options_;
  int told_ = 0;
  std::shared_ptr<const PoolView> last_;
  std::unique_ptr<PoolWatch> watch_;
};

TEST_F(PoolWatchTest, ShowsThePoolsPodsAndAsksTheServerForNoOthers) {
  api_.Put(kPods, PodText{"other", "10.0.0.9", "nginx"}.text());
  StartWithPods();
  EXPECT_TRUE(View().synced);
  EXPECT_TRUE(View().pool_exists);
  EXPECT_EQ(View().target_ports, std::vector<uint16_t>{8000});
  EXPECT_EQ(View().pool_version, "inference.networking.k8s.io/v1");
  EXPECT_EQ(last_, watch_->view());
  EXPECT_EQ(api_.CountRequests("labelSelector=app%3Dvllm"), api_.CountRequests(kPods));
  EXPECT_EQ(api_.CountRequests("fieldSelector=metadata.name%3Dpool"),
            api_.CountRequests("inferencepools"));
  EXPECT_EQ(api_.CountRequests(kPoolsV1alpha2), 0u);
}

TEST_F(PoolWatchTest, IsNotInStepBeforeThePodsAreListed) {
  api_.Put(kPoolsV1, PoolText());
  api_.AddFault({.prefix = kPods});
  Start();
  EXPECT_FALSE(View().synced);
  EXPECT_TRUE(View().pool_exists);
  api_.ClearFaults();
  timers_.Advance(60s);
  EXPECT_TRUE(View().synced);
}

TEST_F(PoolWatchTest, TellsThatAPodGoesAtOnce) {
  StartWithPods();
  const int told = told_;
  api_.Put(kPods, PodText{.name = "a", .deleting = true}.text());
  timers_.Settle();
  EXPECT_EQ(told_, told + 1);
  EXPECT_FALSE(View().pods[0]->serving());
  api_.Remove(kPods, "a");
  timers_.Advance(20ms);
  EXPECT_EQ(Names(), "b");
  api_.Put(kPods, PodText{.name = "b", .ip = "10.0.0.2", .ready = false}.text());
  timers_.Advance(5ms);
  EXPECT_FALSE(View().pods[0]->serving());
}

TEST_F(PoolWatchTest, GathersWhatComesTogether) {
  StartWithPods();
  const int told = told_;
  for (int i = 0; i < 100; ++i)
    api_.Put(kPods, PodText{fmt::format("n{}", i), fmt::format("10.0.1.{}", i)}.text());
  timers_.Advance(19ms);
  EXPECT_EQ(told_, told);
  timers_.Advance(1ms);
  EXPECT_EQ(told_, told + 1);
  EXPECT_EQ(View().pods.size(), 102u);
  // Losses too, after the first.
  timers_.Advance(1s);
  for (int i = 0; i < 100; ++i) api_.Remove(kPods, fmt::format("n{}", i));
  timers_.Advance(5ms);
  EXPECT_EQ(told_, told + 3);
  EXPECT_EQ(Names(), "a b");
}

TEST_F(PoolWatchTest, KeepsWhatDidNotChange) {
  StartWithPods();
  const auto before = watch_->view();
  const int told = told_;
  api_.Put(kPods, PodText{"a", "10.0.0.1"}.text());  // another resourceVersion
  timers_.Advance(1s);
  EXPECT_EQ(told_, told);
  api_.Put(kPods, PodText{.name = "b", .ip = "10.0.0.2", .restarts = 1}.text());
  timers_.Advance(1s);
  EXPECT_EQ(View().pods[0], before->pods[0]);
  EXPECT_NE(View().pods[1], before->pods[1]);
}

TEST_F(PoolWatchTest, ServesTheLastKnownSetThroughAnOutage) {
  StartWithPods();
  api_.SetDown(true);
  timers_.Advance(5min);
  EXPECT_EQ(Names(), "a b");
  EXPECT_TRUE(View().synced);
  EXPECT_EQ(StateOf("pods"), KindState::kDisconnected);
  api_.Remove(kPods, "a");
  api_.Compact();
  api_.SetDown(false);
  timers_.Advance(1min);
  EXPECT_EQ(Names(), "b");
  EXPECT_EQ(StateOf("pods"), KindState::kSynced);
}

TEST_F(PoolWatchTest, SwapsThePodsOfAnotherSelectorAtOnce) {
  StartWithPods();
  api_.Put(kPods, PodText{"c", "10.0.0.3", "sglang"}.text());
  api_.Put(kPods, PodText{"d", "10.0.0.4", "sglang"}.text());
  std::vector<std::string> seen;
  api_.AddFault({.prefix = kPods, .status = 500, .times = 1, .watch = false});
  api_.Put(kPoolsV1, PoolText("sglang", R"({"number":9000})"));
  for (int i = 0; i < 500; ++i) {
    timers_.Advance(10ms);
    const std::string now = Names() + fmt::format(" {}", View().target_ports.front());
    if (seen.empty() || seen.back() != now) seen.push_back(now);
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"a b 8000", "c d 9000"}));
  EXPECT_TRUE(View().synced);
  EXPECT_EQ(api_.watches(kPods), 1u);
}

TEST_F(PoolWatchTest, FollowsThePodsOfTheFormerSelectorUntilTheNextAreListed) {
  StartWithPods();
  api_.AddFault({.prefix = kPods, .status = FakeApi::kSilent, .watch = false});
  api_.Put(kPoolsV1, PoolText("sglang"));
  timers_.Advance(1s);
  api_.Remove(kPods, "a");
  timers_.Advance(1s);
  EXPECT_EQ(Names(), "b");
  // Back to what it was: no list is needed.
  api_.Put(kPoolsV1, PoolText());
  timers_.Advance(1s);
  EXPECT_EQ(Names(), "b");
  EXPECT_EQ(api_.watches(kPods), 1u);
}

TEST_F(PoolWatchTest, TakesOtherPortsWithoutANewList) {
  StartWithPods();
  const size_t asked = api_.CountRequests(kPods);
  api_.Put(kPoolsV1, PoolText("vllm", R"({"number":8000},{"number":8001})",
                              fmt::format(R"(,"uid":"{}")", "uid-101")));
  timers_.Advance(1s);
  EXPECT_EQ(View().target_ports, (std::vector<uint16_t>{8000, 8001}));
  EXPECT_EQ(Names(), "a b");
  EXPECT_EQ(api_.CountRequests(kPods), asked);
}

TEST_F(PoolWatchTest, HasNoEndpointsWithoutThePoolAndStartsAnewWhenItReturns) {
  StartWithPods();
  const int told = told_;
  api_.Put(kPoolsV1, PoolText("vllm", R"({"number":8000})",
                              R"(,"uid":"uid-101","deletionTimestamp":"2026-01-31T08:00:00Z")"));
  timers_.Settle();
  EXPECT_EQ(told_, told + 1);
  EXPECT_FALSE(View().pool_exists);
  EXPECT_TRUE(View().synced);
  EXPECT_EQ(Names(), "");
  api_.Remove(kPoolsV1, "pool");
  timers_.Advance(10s);
  EXPECT_FALSE(View().pool_exists);
  EXPECT_EQ(api_.watches(kPods), 0u);
  api_.Put(kPoolsV1, PoolText("vllm", R"({"number":9000})"));
  timers_.Advance(1s);
  EXPECT_TRUE(View().pool_exists);
  EXPECT_TRUE(View().synced);
  EXPECT_EQ(Names(), "a b");
  EXPECT_EQ(View().target_ports, std::vector<uint16_t>{9000});
}

TEST_F(PoolWatchTest, FindsThePoolOfTheOldGroupWhereTheNewOneLacksIt) {
  api_.Put(kPoolsV1alpha2, OldPoolText());
  api_.Put(kPods, PodText{"a"}.text());
  Start();
  EXPECT_EQ(Names(), "a");
  EXPECT_EQ(View().pool_version, "inference.networking.x-k8s.io/v1alpha2");
  EXPECT_NE(log_.text().find("inference.networking.x-k8s.io"), std::string::npos);
  // The new group's wins when it comes.
  api_.Put(kPods, PodText{"c", "10.0.0.3", "sglang"}.text());
  api_.Put(kPoolsV1, PoolText("sglang"));
  timers_.Advance(1s);
  EXPECT_EQ(Names(), "c");
  EXPECT_EQ(View().pool_version, "inference.networking.k8s.io/v1");
}

TEST_F(PoolWatchTest, FindsTheOldGroupsPoolWhereTheNewGroupIsAbsentOrDenied) {
  api_.Put(kPods, PodText{"a"}.text());
  api_.Put(kPoolsV1alpha2, OldPoolText());
  api_.AddFault({.prefix = kPoolsV1, .status = 403});
  Start();
  EXPECT_EQ(Names(), "a");
  EXPECT_EQ(StateOf("inferencepools.inference.networking.k8s.io"), KindState::kForbidden);

  api_.ClearFaults();
  api_.RemoveCollection(kPoolsV1);
  Start();
  EXPECT_EQ(Names(), "a");
  EXPECT_EQ(StateOf("inferencepools.inference.networking.k8s.io"), KindState::kAbsent);
}

TEST_F(PoolWatchTest, LooksOnlyIntoTheGroupItIsGiven) {
  options_.pool_group = "inference.networking.x-k8s.io";
  api_.Put(kPoolsV1, PoolText("sglang"));
  api_.Put(kPoolsV1alpha2, OldPoolText());
  api_.Put(kPods, PodText{"a"}.text());
  Start();
  EXPECT_EQ(Names(), "a");
  EXPECT_EQ(api_.CountRequests(kPoolsV1), 0u);
}

TEST_F(PoolWatchTest, KnowsThatThereIsNoPool) {
  Start();
  EXPECT_TRUE(View().synced);
  EXPECT_FALSE(View().pool_exists);
  EXPECT_EQ(api_.CountRequests(kPods), 0u);
}

TEST_F(PoolWatchTest, KnowsNothingWhereNoGroupIsThere) {
  api_.RemoveCollection(kPoolsV1);
  api_.RemoveCollection(kPoolsV1alpha2);
  Start();
  EXPECT_FALSE(View().synced);
  EXPECT_FALSE(View().pool_exists);
}

TEST_F(PoolWatchTest, TakesObjectivesOfItsPoolFromBothGroups) {
  api_.Put(kObjectives, ObjectiveText("both", 1));
  api_.Put(kObjectives, ObjectiveText("another-pool", 1, "other"));
  api_.Put(kObjectives, ObjectiveText("another-group", 1, "pool", "inference.networking.x-k8s.io"));
  api_.Put(kOldObjectives, ObjectiveText("both", 2));
  api_.Put(kOldObjectives, ObjectiveText("old", 3));
  StartWithPods();
  const auto priorities = [this] {
    std::string out;
    for (const auto& o : View().objectives) out += fmt::format("{}={} ", o->meta.name, o->priority);
    return out;
  };
  EXPECT_EQ(priorities(), "both=1 old=3 ");
  api_.Remove(kObjectives, "both");
  timers_.Advance(1s);
  EXPECT_EQ(priorities(), "both=2 old=3 ");
  api_.Put(kOldObjectives, ObjectiveText("old", 3, "other"));
  timers_.Advance(1s);
  EXPECT_EQ(priorities(), "both=2 ");
}

TEST_F(PoolWatchTest, LeavesOutOnlyTheKindsThatAreAbsentOrForbidden) {
  api_.RemoveCollection(kRewrites);
  api_.AddFault({.prefix = kObjectives, .status = 403});
  api_.Put(kOldObjectives, ObjectiveText("old", 3));
  StartWithPods();
  EXPECT_TRUE(View().synced);
  EXPECT_EQ(View().objectives.size(), 1u);
  EXPECT_EQ(StateOf("inferenceobjectives.llm-d.ai"), KindState::kForbidden);
  EXPECT_EQ(StateOf("inferencemodelrewrites.llm-d.ai"), KindState::kAbsent);
  // They join when they can.
  api_.ClearFaults();
  api_.Put(kRewrites,
           R"({"metadata":{"name":"r"},"spec":{"poolRef":{"name":"pool"},"rules":[{}]}})");
  timers_.Advance(3min);
  EXPECT_EQ(StateOf("inferenceobjectives.llm-d.ai"), KindState::kSynced);
  EXPECT_EQ(View().rewrites.size(), 1u);
}

TEST_F(PoolWatchTest, PassesOverWhatItCannotRead) {
  StartWithPods();
  api_.Put(kPoolsV1, R"({"metadata":{"name":"pool","uid":"uid-101"},"spec":{"targetPorts":"x"}})");
  api_.Put(kObjectives, R"({"metadata":{"name":"o"},"spec":{}})");
  timers_.Advance(1s);
  EXPECT_EQ(Names(), "a b");
  EXPECT_TRUE(View().objectives.empty());
  EXPECT_NE(log_.text().find("cannot be read"), std::string::npos);
}

TEST_F(PoolWatchTest, WatchesPodsOnlyWithASelector) {
  options_.pool_name.clear();
  options_.selector = "app in (vllm,sglang),!gone";
  options_.target_ports = {8000, 8001, 8000};
  api_.Put(kPods, PodText{"a", "10.0.0.1"}.text());
  api_.Put(kPods, PodText{"n", "10.0.0.2", "nginx"}.text());  // the server may pass selectors over
  Start();
  EXPECT_EQ(Names(), "a");
  EXPECT_TRUE(View().pool_exists);
  EXPECT_TRUE(View().synced);
  EXPECT_EQ(View().target_ports, (std::vector<uint16_t>{8000, 8001}));
  EXPECT_EQ(api_.CountRequests("/apis/"), 0u);
  api_.Put(kPods, PodText{"a", "10.0.0.1", "nginx"}.text());  // left the selector
  timers_.Advance(20ms);
  EXPECT_EQ(Names(), "");
}

TEST_F(PoolWatchTest, SaysNothingAfterStop) {
  StartWithPods();
  const int told = told_;
  api_.Remove(kPods, "a");
  watch_->Stop();
  timers_.Advance(10min);
  EXPECT_EQ(told_, told);
  EXPECT_EQ(Names(), "a b");
}

TEST_F(PoolWatchTest, NamesTheOptionThatIsWrong) {
  const auto error = [this](auto change) {
    PoolWatchOptions options = options_;
    change(options);
    auto made = PoolWatch::Create(api_, timers_, clock_, registry_, options, [](auto) {});
    return made ? std::string("none") : made.error().message;
  };
  EXPECT_EQ(error([](auto&) {}), "none");
  EXPECT_NE(error([](auto& o) { o.selector = "a=b"; }).find("either"), std::string::npos);
  EXPECT_NE(error([](auto& o) { o.pool_name.clear(); }).find("either"), std::string::npos);
  EXPECT_NE(error([](auto& o) { o.pool_name = "a/b"; }).find("pool name"), std::string::npos);
  EXPECT_NE(error([](auto& o) { o.pool_group = "x"; }).find("pool group"), std::string::npos);
  EXPECT_NE(error([](auto& o) { o.ns = ""; }).find("namespace"), std::string::npos);
  const auto selected = [&](std::string selector, std::vector<uint16_t> ports) {
    return error([&](auto& o) {
      o.pool_name.clear();
      o.selector = selector;
      o.target_ports = ports;
    });
  };
  EXPECT_EQ(selected("a=b", {1}), "none");
  EXPECT_NE(selected("a=b", {}).find("target ports"), std::string::npos);
  EXPECT_NE(selected("a=", std::vector<uint16_t>(9, 1)).find("target ports"), std::string::npos);
  EXPECT_NE(selected("a b", {1}).find("label selector"), std::string::npos);
}

// Ten thousand pods in the namespace, a thousand in the pool, a hundred changes in a minute.
TEST_F(PoolWatchTest, ChangesOfALargePoolAreCheap) {
  for (int i = 0; i < 9000; ++i)
    api_.Put(kPods, PodText{fmt::format("other-{}", i), "10.9.0.1", "nginx"}.text());
  for (int i = 0; i < 1000; ++i) {
    api_.Put(kPods,
             PodText{fmt::format("p{:04}", i), fmt::format("10.0.{}.{}", i / 250, i % 250)}.text());
  }
  api_.Put(kPoolsV1, PoolText());
  Start();
  ASSERT_EQ(View().pods.size(), 1000u);
  const size_t asked = api_.CountRequests(kPods);
  const int told = told_;
  for (int i = 0; i < 100; ++i) {
    api_.Remove(kPods, fmt::format("p{:04}", i));
    api_.Put(kPods, PodText{fmt::format("other-{}", i), "10.9.0.2", "nginx"}.text());
    timers_.Settle();
    ASSERT_EQ(View().pods.size(), 999u - static_cast<size_t>(i));
    timers_.Advance(600ms);
  }
  EXPECT_EQ(told_, told + 100);
  EXPECT_EQ(api_.CountRequests(kPods), asked);
}

}  // namespace
}  // namespace warmpath::k8s
