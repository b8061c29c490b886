#include "k8s/lease.h"

#include <gtest/gtest.h>

#include "base/log.h"
#include "k8s/testing.h"

namespace warmpath::k8s {
namespace {

using namespace std::chrono_literals;
using codec::Json;
using testing::FakeApi;
using testing::ManualTimers;

constexpr char kLeases[] = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";
constexpr char kLease[] = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/epp-ns-pool.llm-d.ai";
constexpr Duration kExpiry = 15s;

// Replicas over one API server that keeps a lease as the real one does: a PUT with an old
// resourceVersion and a POST of what exists are conflicts. Each has its own way to the server.
class LeaseTest : public ::testing::Test {
 protected:
  struct Replica {
    explicit Replica(ManualTimers& timers) : api(timers) {}
    FakeApi api;
    Registry metrics;
    std::vector<bool> changes;
    std::unique_ptr<LeaderElector> elector;

    bool leading() const { return elector->leading(); }
  };

  std::unique_ptr<Replica> Add(const std::string& identity) {
    auto replica = std::make_unique<Replica>(timers_);
    replica->api.handler = [this](const ApiRequest& request) { return Answer(request); };
    LeaderOptions options;
    options.ns = "ns";
    options.lease_name = LeaseName("ns", "pool");
    options.identity = identity;
    Replica* raw = replica.get();
    replica->elector =
        LeaderElector::Create(raw->api, timers_, clock_, raw->metrics, options, [raw](bool leads) {
          EXPECT_EQ(raw->elector->leading(), leads);
          raw->changes.push_back(leads);
        });
    return replica;
  }
  std::unique_ptr<Replica> Started(const std::string& identity) {
    auto replica = Add(identity);
    replica->elector->Start();
    timers_.Settle();
    return replica;
  }

  std::optional<Result<ApiAnswer>> Answer(const ApiRequest& request) {
    requests_.push_back(request);
    if (before_) std::exchange(before_, nullptr)();
    if (request.method == "GET") {
      EXPECT_EQ(request.path, kLease);
      if (!lease_) return ApiAnswer{404, {}, FakeApi::StatusBody(404, "NotFound")};
      return ApiAnswer{200, {}, codec::DumpJson(*lease_)};
    }
    Json sent = codec::ParseJson(request.body).value();
    if (request.method == "POST") {
      EXPECT_EQ(request.path, kLeases);
      if (lease_) return ApiAnswer{409, {}, FakeApi::StatusBody(409, "AlreadyExists")};
    } else {
      EXPECT_EQ(request.method, "PUT");
      EXPECT_EQ(request.path, kLease);
      if (!lease_) return ApiAnswer{404, {}, FakeApi::StatusBody(404, "NotFound")};
      if (Meta(sent, "resourceVersion") != Meta(*lease_, "resourceVersion"))
        return ApiAnswer{409, {}, FakeApi::StatusBody(409, "Conflict")};
    }
    Keep(std::move(sent));
    if (lose_answers_) return Fail(Code::kUnavailable, "connection reset");
    return ApiAnswer{request.method == "POST" ? 201 : 200, {}, codec::DumpJson(*lease_)};
  }
  void Keep(Json lease) {
    lease.as_object()["metadata"].as_object()["resourceVersion"] = std::to_string(++version_);
    lease_ = std::move(lease);
  }
  static std::string Meta(const Json& lease, std::string_view field) {
    return std::string(codec::FindString(*codec::Find(lease, "metadata"), field).value_or(""));
  }
  // Of what the server holds.
  std::string Spec(std::string_view field) const {
    if (!lease_) return "no lease";
    const Json* value = codec::Find(*codec::Find(*lease_, "spec"), field);
    return value == nullptr ? "absent" : codec::DumpJson(*value);
  }
  void HoldBy(const std::string& holder, const std::string& renewed = "2025-01-01T00:00:00Z") {
    Keep(codec::ParseJson(R"({"apiVersion":"coordination.k8s.io/v1","kind":"Lease",
        "metadata":{"name":"epp-ns-pool.llm-d.ai","namespace":"ns","labels":{"kept":"yes"}},
        "spec":{"holderIdentity":")" +
                          holder + R"(","leaseDurationSeconds":15,"leaseTransitions":4,
        "acquireTime":"2025-01-01T00:00:00.000000Z","renewTime":")" +
                          renewed + R"("}})")
             .value());
  }
  // In steps, so that what happens between the clock's ticks is seen.
  template <typename Condition>
  Duration AdvanceUntil(Condition condition, Duration limit) {
    const TimePoint start = clock_.Now();
    while (!condition() && clock_.Now() - start < limit) timers_.Advance(100ms);
    return clock_.Now() - start;
  }

  ManualClock clock_;
  ManualTimers timers_{clock_};
  std::optional<Json> lease_;
  uint64_t version_ = 100;
  std::vector<ApiRequest> requests_;
  bool lose_answers_ = false;     // of writes that were done
  std::function<void()> before_;  // once, when the next request arrives
};

TEST_F(LeaseTest, NamesAreThoseOfTheReference) {
  EXPECT_EQ(LeaseName("llm-d", "gaie-kv-events"), "epp-llm-d-gaie-kv-events.llm-d.ai");
  const std::string identity = LeaderIdentity("pod-1");
  EXPECT_EQ(identity.substr(0, 6), "pod-1_");
  EXPECT_EQ(identity.size(), 6 + 36u);
  EXPECT_NE(identity, LeaderIdentity("pod-1"));
}

TEST_F(LeaseTest, TheFirstReplicaMakesTheLeaseAndLeads) {
  const auto a = Started("a");
  EXPECT_TRUE(a->leading());
  EXPECT_EQ(a->elector->holder(), "a");
  EXPECT_EQ(a->changes, std::vector{true});
  EXPECT_EQ(Spec("holderIdentity"), R"("a")");
  EXPECT_EQ(Spec("leaseDurationSeconds"), "15");
  EXPECT_EQ(Spec("leaseTransitions"), "0");
  EXPECT_EQ(Spec("acquireTime"), R"("2025-06-15T15:06:41.000000Z")");
  EXPECT_EQ(Spec("renewTime"), R"("2025-06-15T15:06:41.000000Z")");
  EXPECT_EQ(Meta(*lease_, "name"), "epp-ns-pool.llm-d.ai");
  EXPECT_EQ(Meta(*lease_, "namespace"), "ns");
  EXPECT_NE(a->metrics.Render().find("warmpath_leader 1\n"), std::string::npos);
}

TEST_F(LeaseTest, TheLeaderRenewsEveryTwoSecondsWithoutReading) {
  const auto a = Started("a");
  requests_.clear();
  timers_.Advance(20s + 1us);
  ASSERT_EQ(requests_.size(), 10u);
  for (const ApiRequest& request : requests_) EXPECT_EQ(request.method, "PUT");
  EXPECT_EQ(Spec("acquireTime"), R"("2025-06-15T15:06:41.000000Z")");
  EXPECT_EQ(Spec("renewTime"), R"("2025-06-15T15:07:01.000000Z")");
  EXPECT_EQ(Spec("leaseTransitions"), "0");
  EXPECT_TRUE(a->leading());
  EXPECT_EQ(a->changes.size(), 1u);
}

TEST_F(LeaseTest, FollowersTakeOverOnceTheLeaseStoodStillForItsDuration) {
  auto a = Started("a");
  const auto b = Started("b");
  timers_.Advance(60s);
  EXPECT_FALSE(b->leading());
  EXPECT_EQ(b->elector->holder(), "a");
  EXPECT_TRUE(b->changes.empty());
  a.reset();  // killed: nobody gives the lease back
  const Duration took = AdvanceUntil([&] { return b->leading(); }, 60s);
  EXPECT_GE(took, kExpiry - 2500ms);
  EXPECT_LE(took, kExpiry + 2600ms);  // since it was last seen to change
  EXPECT_EQ(Spec("holderIdentity"), R"("b")");
  EXPECT_EQ(Spec("leaseTransitions"), "1");
}

TEST_F(LeaseTest, TheClocksOfOthersDoNotMatter) {
  HoldBy("long-gone", "1999-01-01T00:00:00.000000Z");
  const auto b = Started("b");
  timers_.Advance(kExpiry - 1s);
  EXPECT_FALSE(b->leading()) << "judged by the time in the lease";
  timers_.Advance(4s);
  EXPECT_TRUE(b->leading());
  EXPECT_EQ(Spec("leaseTransitions"), "5");
  const Json* labels = codec::Find(*codec::Find(*lease_, "metadata"), "labels");
  ASSERT_NE(labels, nullptr) << "what others put on the lease stays";
  EXPECT_EQ(codec::FindString(*labels, "kept"), "yes");
}

TEST_F(LeaseTest, AChangeThatIsNoRenewalDoesNotProlongTheLease) {
  HoldBy("long-gone");
  const auto b = Started("b");
  for (int i = 0; i < 10; ++i) {
    timers_.Advance(2s);
    if (b->leading()) break;
    Json lease = *lease_;  // somebody writes annotations
    lease.as_object()["metadata"].as_object()["annotations"] = codec::JsonObject{{"n", i}};
    Keep(std::move(lease));
  }
  EXPECT_TRUE(b->leading());
}

TEST_F(LeaseTest, ALeaderThatCannotRenewStopsBeforeOthersStart) {
  const auto a = Started("a");
  const auto b = Started("b");
  timers_.Advance(9s);
  a->api.SetDown(true);
  const Duration until_down = AdvanceUntil([&] { return !a->leading(); }, 60s);
  EXPECT_LE(until_down, 10s);
  EXPECT_GT(until_down, 7s);
  EXPECT_FALSE(b->leading());
  EXPECT_EQ(a->changes, (std::vector{true, false}));
  const Duration gap = AdvanceUntil([&] { return b->leading(); }, 60s);
  EXPECT_GT(gap, 2s);
  a->api.SetDown(false);
  timers_.Advance(60s);
  EXPECT_TRUE(b->leading());
  EXPECT_FALSE(a->leading());
  EXPECT_EQ(a->elector->holder(), "b");
}

TEST_F(LeaseTest, ASilentServerEndsTheLeadershipToo) {
  const auto a = Started("a");
  a->api.AddFault({.prefix = kLeases, .status = FakeApi::kSilent});
  timers_.Advance(9900ms);
  EXPECT_TRUE(a->leading());
  timers_.Advance(100ms);
  EXPECT_FALSE(a->leading());
  EXPECT_EQ(a->changes, (std::vector{true, false}));
}

TEST_F(LeaseTest, LeadershipEndsAtItsDeadlineEvenIfTheLoopIsLate) {
  const auto a = Started("a");
  clock_.Advance(10s);  // no timer fires
  EXPECT_FALSE(a->leading());
  timers_.Settle();  // the renewal, answered at once
  EXPECT_TRUE(a->leading());
}

TEST_F(LeaseTest, AShortOutageIsOutlived) {
  const auto a = Started("a");
  a->api.AddFault({.prefix = kLeases, .status = 500, .times = 2});
  timers_.Advance(30s);
  EXPECT_TRUE(a->leading());
  EXPECT_EQ(a->changes.size(), 1u);
  EXPECT_NE(a->metrics.Render().find("warmpath_leader_election_errors_total 2\n"),
            std::string::npos);
}

TEST_F(LeaseTest, AConflictIsReadAgainAtOnce) {
  const auto a = Started("a");
  Json lease = *lease_;
  lease.as_object()["metadata"].as_object()["annotations"] = codec::JsonObject{{"by", "kubectl"}};
  Keep(std::move(lease));
  requests_.clear();
  timers_.Advance(2s);
  ASSERT_EQ(requests_.size(), 3u);
  EXPECT_EQ(requests_[0].method, "PUT");
  EXPECT_EQ(requests_[1].method, "GET");
  EXPECT_EQ(requests_[2].method, "PUT");
  EXPECT_EQ(Meta(*lease_, "resourceVersion"), std::to_string(version_));
  EXPECT_EQ(a->changes.size(), 1u);
  HoldBy("thief");
  timers_.Advance(2s);
  EXPECT_FALSE(a->leading());
  EXPECT_EQ(a->elector->holder(), "thief");
  EXPECT_EQ(Spec("holderIdentity"), R"("thief")");
}

TEST_F(LeaseTest, OfTwoThatMakeTheLeaseOneLeads) {
  const auto a = Add("a");
  const auto b = Add("b");
  a->elector->Start();
  b->elector->Start();
  ASSERT_EQ(requests_.size(), 2u) << "both have read that there is none";
  timers_.Settle();
  EXPECT_TRUE(a->leading());
  EXPECT_FALSE(b->leading());
  EXPECT_EQ(b->elector->holder(), "a");
}

TEST_F(LeaseTest, ADeletedLeaseIsMadeAgain) {
  const auto a = Started("a");
  lease_.reset();
  timers_.Advance(2s);
  EXPECT_TRUE(a->leading());
  EXPECT_EQ(Spec("holderIdentity"), R"("a")");
  EXPECT_EQ(a->changes.size(), 1u);
}

TEST_F(LeaseTest, ForbiddenLeasesAreSaidOnceAndTriedOn) {
  LogCapture log;
  auto a = Add("a");
  a->api.AddFault({.prefix = kLeases, .status = 403, .times = 10});
  a->elector->Start();
  timers_.Advance(20s);
  EXPECT_FALSE(a->leading());
  const std::string text = log.text();
  const size_t first = text.find("reading the lease: 403: fault 403");
  EXPECT_NE(first, std::string::npos) << text;
  EXPECT_EQ(text.find("reading the lease: 403: fault 403", first + 1), std::string::npos) << text;
  timers_.Advance(10s);
  EXPECT_TRUE(a->leading());
}

TEST_F(LeaseTest, ABusyServerIsGivenTheTimeItAsksForWithinBounds) {
  auto a = Add("a");
  a->api.AddFault({.prefix = kLeases, .status = 429, .retry_after = 3600s, .times = 1});
  a->elector->Start();
  timers_.Advance(4900ms);
  EXPECT_FALSE(a->leading());
  timers_.Advance(200ms);
  EXPECT_TRUE(a->leading());
}

TEST_F(LeaseTest, GarbageIsNoLease) {
  auto a = Add("a");
  for (const char* body : {"", "[]", "{", R"({"metadata":{}})", R"({"metadata":7,"spec":8})"}) {
    a->api.handler = [body](const ApiRequest&) { return ApiAnswer{200, {}, body}; };
    if (a->elector->holder().empty()) a->elector->Start();
    timers_.Advance(3s);
    EXPECT_FALSE(a->leading()) << body;
  }
  a->api.handler = [this](const ApiRequest& request) { return Answer(request); };
  HoldBy("");
  lease_->as_object()["spec"] = "nothing";
  timers_.Advance(3s);
  EXPECT_TRUE(a->leading());
}

TEST_F(LeaseTest, ReleaseGivesTheLeaseBackAndTheNextTakesItSoon) {
  const auto a = Started("a");
  const auto b = Started("b");
  timers_.Advance(5s);
  bool done = false;
  a->elector->Release([&] { done = true; });
  EXPECT_FALSE(a->leading());
  EXPECT_FALSE(done);
  timers_.Settle();
  EXPECT_TRUE(done);
  EXPECT_EQ(a->changes, (std::vector{true, false}));
  EXPECT_EQ(Spec("holderIdentity"), R"("")");
  EXPECT_EQ(Spec("leaseDurationSeconds"), "1");
  EXPECT_LE(AdvanceUntil([&] { return b->leading(); }, 60s), 2600ms);
  EXPECT_EQ(Spec("leaseDurationSeconds"), "15");
  timers_.Advance(60s);
  EXPECT_FALSE(a->leading());
}

TEST_F(LeaseTest, ReleaseWaitsForARenewalUnderWay) {
  const auto a = Started("a");
  before_ = [&] { a->elector->Release([] {}); };
  timers_.Advance(2s);
  EXPECT_EQ(Spec("holderIdentity"), R"("")");
  EXPECT_FALSE(a->leading());
}

TEST_F(LeaseTest, AFollowersReleaseLeavesTheLeaseAlone) {
  const auto a = Started("a");
  const auto b = Started("b");
  const uint64_t version = version_;
  bool done = false;
  b->elector->Release([&] { done = true; });
  EXPECT_TRUE(done);
  EXPECT_EQ(version_, version);
  const auto c = Add("c");
  c->elector->Release([&] { done = false; });
  EXPECT_FALSE(done) << "one that never started has nothing to wait for";
}

TEST_F(LeaseTest, ReleaseTakesTwoSecondsAtMost) {
  const auto a = Started("a");
  a->api.AddFault({.prefix = kLeases, .status = FakeApi::kSilent});
  bool done = false;
  a->elector->Release([&] { done = true; });
  timers_.Advance(1999ms);
  EXPECT_FALSE(done);
  timers_.Advance(1ms);
  EXPECT_TRUE(done);
}

TEST_F(LeaseTest, NeverTwoLeadersWhateverFails) {
  std::vector<std::unique_ptr<Replica>> replicas;
  for (const char* name : {"a", "b", "c"}) replicas.push_back(Started(name));
  uint64_t state = 7;
  const auto draw = [&](uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
  };
  int led = 0;
  for (int step = 0; step < 20'000; ++step) {
    if (draw(40) == 0) replicas[draw(3)]->api.SetDown(draw(2) == 0);
    lose_answers_ = draw(4) == 0;
    timers_.Advance(100ms);
    const auto leaders = std::ranges::count_if(replicas, [](auto& r) { return r->leading(); });
    ASSERT_LE(leaders, 1) << "step " << step;
    led += leaders == 1 ? 1 : 0;
  }
  EXPECT_GT(led, 10'000);
}

}  // namespace
}  // namespace warmpath::k8s
