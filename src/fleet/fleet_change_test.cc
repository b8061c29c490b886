// Fleets whose endpoints, names and engines change.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "fleet/fleet.h"
#include "fleet/testing.h"

namespace warmpath::fleet {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

// What a name server would answer.
class FakeNames {
 public:
  void Set(const std::string& host, std::vector<std::string> addresses) {
    MutexLock lock(mutex_);
    names_[host] = std::move(addresses);
  }
  NameLookup lookup() {
    return [this](const std::string& host) -> Result<std::vector<std::string>> {
      MutexLock lock(mutex_);
      ++asked_;
      const auto it = names_.find(host);
      if (it == names_.end()) return Fail(Code::kUnavailable, "cannot resolve " + host);
      return it->second;
    };
  }
  int asked() {
    MutexLock lock(mutex_);
    return asked_;
  }

 private:
  Mutex mutex_;
  int asked_ GUARDED_BY(mutex_) = 0;
  std::map<std::string, std::vector<std::string>> names_ GUARDED_BY(mutex_);
};

class FleetChangeTest : public testing::Test {
 protected:
  FleetChangeTest() : loop_("fleet") { loop_.Start(); }
  ~FleetChangeTest() override {
    if (fleet_) fleet_->Stop();
    loop_.Stop();
  }

  Fleet& Make(FleetOptions options) {
    fleet_ = std::make_unique<Fleet>(loop_, std::move(options), registry_, clock_);
    return *fleet_;
  }
  FleetOptions Fast() {
    FleetOptions options;
    options.active_interval = milliseconds(10);
    options.idle_interval = milliseconds(20);
    options.idle_scrape_interval = {};
    options.models_interval = milliseconds(50);
    options.lookup = names_.lookup();
    return options;
  }
  static EndpointSpec Spec(const std::string& name, const std::string& host, uint16_t port) {
    EndpointSpec spec;
    spec.name = name;
    spec.url.address = {host, port};
    return spec;
  }
  std::shared_ptr<const Endpoint> First() { return fleet_->snapshot()->endpoints.at(0); }
  bool BecomesHealthy() {
    return Eventually([&] { return First()->health == Health::kHealthy; });
  }
  // Moves the time until `condition` holds.
  bool AsTimePasses(const std::function<bool()>& condition) {
    return Eventually([&] {
      clock_.Advance(milliseconds(1));
      return condition();
    });
  }

  ManualClock clock_;
  FakeNames names_;
  net::Loop loop_;
  Registry registry_;
  std::unique_ptr<Fleet> fleet_;
};

TEST_F(FleetChangeTest, ANameIsUnhealthyUntilItIsResolved) {
  FakeEngine engine;
  FleetOptions options = Fast();
  options.resolve_interval = milliseconds(20);
  Fleet& fleet = Make(options);
  fleet.SetEndpoints({Spec("a", "engine.test", engine.port())});
  EXPECT_FALSE(First()->has_address());
  fleet.Start();
  ASSERT_TRUE(Eventually([&] { return First()->health == Health::kUnhealthy; }));
  ASSERT_TRUE(Eventually([&] { return First()->health_reason == "cannot resolve engine.test"; }));
  const EndpointId id = First()->id;
  names_.Set("engine.test", {"127.0.0.1"});
  ASSERT_TRUE(Eventually([&] { return First()->health == Health::kHealthy; }));
  EXPECT_EQ(First()->id, id);
  EXPECT_TRUE(First()->has_address());
  EXPECT_EQ(First()->address(), fmt::format("127.0.0.1:{}", engine.port()));
  EXPECT_EQ(engine.host(), fmt::format("engine.test:{}", engine.port()));
}

TEST_F(FleetChangeTest, ANameThatMovesIsANewEndpointAndALostOneKeepsItsAddress) {
  FakeEngine engine;
  names_.Set("engine.test", {"127.0.0.1"});
  Fleet& fleet = Make(Fast());
  fleet.SetEndpoints({Spec("a", "engine.test", engine.port())});
  fleet.Start();
  ASSERT_TRUE(BecomesHealthy());
  const EndpointId id = First()->id;
  auto ticket = fleet.inflight().Book(id, 0, 1, 1);

  // Still among the answers: nothing changes.
  names_.Set("engine.test", {"127.0.0.9", "127.0.0.1"});
  int asked = names_.asked();
  clock_.Advance(std::chrono::seconds(31));
  ASSERT_TRUE(Eventually([&] { return names_.asked() > asked; }));
  int healths = engine.healths;
  ASSERT_TRUE(Eventually([&] { return engine.healths > healths + 2; }));
  EXPECT_EQ(First()->id, id);

  names_.Set("engine.test", {});
  asked = names_.asked();
  clock_.Advance(std::chrono::seconds(31));
  ASSERT_TRUE(Eventually([&] { return names_.asked() > asked; }));
  healths = engine.healths;
  ASSERT_TRUE(Eventually([&] { return engine.healths > healths + 2; }));
  EXPECT_EQ(First()->id, id);
  EXPECT_EQ(First()->health, Health::kHealthy);

  FakeEngine other(engine.port(), "127.0.0.2");
  names_.Set("engine.test", {"127.0.0.2"});
  clock_.Advance(std::chrono::seconds(31));
  ASSERT_TRUE(Eventually([&] { return First()->id != id; }));
  ASSERT_TRUE(BecomesHealthy());
  EXPECT_EQ(First()->address(), fmt::format("127.0.0.2:{}", engine.port()));
  EXPECT_EQ(fleet.inflight().Load(id).requests, 0);
}

TEST_F(FleetChangeTest, Ipv6EndpointsHaveBrackets) {
  std::unique_ptr<FakeEngine> engine;
  try {
    engine = std::make_unique<FakeEngine>(0, "::1");
  } catch (const std::runtime_error&) {
    GTEST_SKIP() << "no IPv6 here";
  }
  names_.Set("six.test", {"::1"});
  Fleet& fleet = Make(Fast());
  fleet.SetEndpoints({Spec("a", "::1", engine->port()), Spec("b", "six.test", engine->port())});
  fleet.Start();
  const std::string address = fmt::format("[::1]:{}", engine->port());
  ASSERT_TRUE(Eventually([&] {
    const auto now = fleet.snapshot();
    return std::all_of(now->endpoints.begin(), now->endpoints.end(),
                       [](const auto& endpoint) { return endpoint->health == Health::kHealthy; });
  }));
  EXPECT_EQ(fleet.snapshot()->endpoints[0]->address(), address);
  EXPECT_EQ(fleet.snapshot()->endpoints[1]->address(), address);
}

TEST_F(FleetChangeTest, TheSameNameElsewhereIsANewEndpoint) {
  LogCapture capture;
  Fleet& fleet = Make(Fast());
  fleet.SetEndpoints({Spec("a", "10.0.0.1", 1), Spec("b", "10.0.0.2", 1)});
  const auto ids = [&] {
    std::vector<EndpointId> all;
    const auto snapshot = fleet.snapshot();
    for (const auto& endpoint : snapshot->endpoints) all.push_back(endpoint->id);
    return all;
  };
  EXPECT_THAT(ids(), testing::ElementsAre(1, 2));
  EndpointSpec labelled = Spec("a", "10.0.0.1", 1);
  labelled.labels["x"] = "y";
  fleet.SetEndpoints({labelled, Spec("b", "10.0.0.3", 1)});
  EXPECT_THAT(ids(), testing::ElementsAre(1, 3));
  EXPECT_EQ(First()->spec.labels.at("x"), "y");
  EXPECT_EQ(fleet.snapshot()->Find(2), nullptr);

  EndpointSpec elsewhere = Spec("a", "10.0.0.1", 1);
  elsewhere.ns = "other";
  fleet.SetEndpoints(
      {Spec("a", "10.0.0.9", 1), Spec("b", "10.0.0.3", 1), elsewhere, Spec("a", "10.0.0.1", 1)});
  EXPECT_THAT(ids(), testing::ElementsAre(1, 3, 4));
  EXPECT_THAT(capture.text(), HasSubstr("endpoint given twice"));
}

TEST_F(FleetChangeTest, ReadsEachEngineByItsLabelAtTheScrapePort) {
  LogCapture capture;
  FakeEngine engine;
  FakeEngine exporter;
  exporter.SetMetrics("nv_inference_pending_request_count{model=\"m\"} 6\n");
  engine.SetHealthPath("/v2/health/ready");
  FleetOptions options = Fast();
  options.scrape.port = exporter.port();
  Fleet& fleet = Make(options);
  EndpointSpec spec = engine.Spec();
  spec.labels["llm-d.ai/engine-type"] = "triton";
  fleet.SetEndpoints({spec});
  fleet.Start();
  ASSERT_TRUE(BecomesHealthy());
  EXPECT_EQ(First()->load.waiting, 6);
  EXPECT_EQ(engine.scrapes, 0);
  spec.labels["llm-d.ai/engine-type"] = "none-such";
  exporter.SetMetrics("sglang:num_queue_reqs 8\n");
  engine.SetHealthPath("/health");
  fleet.SetEndpoints({spec});
  ASSERT_TRUE(Eventually([&] { return First()->load.waiting == 8; }));
  EXPECT_THAT(capture.text(), HasSubstr("names an engine that is not known"));
  exporter.SetMetrics("something_else 1\n");
  ASSERT_TRUE(Eventually([&] {
    return registry_.Render().find(
               "llm_d_epp_datalayer_extract_errors_total{extractor_type=\"core-metrics-extractor\","
               "source_type=\"metrics-data-source\"}") != std::string::npos;
  }));
}

TEST_F(FleetChangeTest, AsksHealthNoMoreOftenThanAskedTo) {
  FakeEngine engine;
  FleetOptions options = Fast();
  options.idle_interval = milliseconds(10);
  options.health_interval = std::chrono::hours(1);
  Fleet& fleet = Make(options);
  fleet.SetEndpoints({engine.Spec()});
  fleet.Start();
  ASSERT_TRUE(BecomesHealthy());
  ASSERT_TRUE(Eventually([&] { return engine.scrapes >= 5; }));
  EXPECT_EQ(engine.healths, 1);
  clock_.Advance(std::chrono::hours(1));
  ASSERT_TRUE(Eventually([&] { return engine.healths == 2; }));
  fleet.ReportFailure(First()->id, "refused");
  ASSERT_TRUE(Eventually([&] { return engine.healths >= 3; }));
  ASSERT_TRUE(BecomesHealthy());
}

// By the clock that the test moves; rounds go by timers of their own.
TEST_F(FleetChangeTest, WithoutTrafficItAsksForTheLoadRarely) {
  FakeEngine engine;
  FleetOptions options = Fast();
  options.active_interval = options.idle_interval = milliseconds(2);
  options.idle_scrape_interval = std::chrono::seconds(50);
  options.models_interval = std::chrono::hours(1);
  Fleet& fleet = Make(options);
  fleet.SetEndpoints({engine.Spec()});
  fleet.Start();
  ASSERT_TRUE(BecomesHealthy());
  const auto rounds_pass = [&] {
    const int before = engine.healths;
    return Eventually([&] { return engine.healths >= before + 5; });
  };
  // A round may be under way when what decides changes.
  const auto stays = [&] {
    EXPECT_TRUE(rounds_pass());
    const int before = engine.scrapes;
    EXPECT_TRUE(rounds_pass());
    return engine.scrapes == before;
  };
  const auto goes_on = [&] {
    const int before = engine.scrapes;
    return Eventually([&] { return engine.scrapes >= before + 5; });
  };
  EXPECT_TRUE(stays());
  EXPECT_EQ(engine.scrapes, 1);
  EXPECT_GE(First()->load.again, std::chrono::seconds(50));
  clock_.Advance(std::chrono::seconds(50));
  ASSERT_TRUE(Eventually([&] { return engine.scrapes == 2; }));
  EXPECT_TRUE(stays());

  fleet.Touch(First()->id);
  EXPECT_TRUE(goes_on());
  EXPECT_EQ(First()->load.again, options.active_interval);
  clock_.Advance(std::chrono::seconds(6));
  EXPECT_TRUE(stays());
  {
    const auto ticket = fleet.inflight().Book(First()->id, 0, 1, 1);
    EXPECT_TRUE(goes_on());
  }
  EXPECT_TRUE(stays());

  // Others send to it.
  engine.running = 1;
  clock_.Advance(std::chrono::seconds(50));
  EXPECT_TRUE(goes_on());
  engine.running = 0;
  EXPECT_TRUE(stays());
}

TEST_F(FleetChangeTest, OldFiguresLeaveThePoolsGauges) {
  FleetOptions options = Fast();
  options.pool_name = "p";
  options.staleness = std::chrono::seconds(2);
  options.gauges_interval = std::chrono::seconds(5);
  Fleet& fleet = Make(options);
  fleet.SetEndpoints({Spec("a", "10.0.0.1", 1), Spec("b", "10.0.0.2", 1)});
  const auto set = [&](EndpointId id, double waiting) {
    fleet.UpdateForTest(id, [&](Endpoint& endpoint) {
      endpoint.health = Health::kHealthy;
      endpoint.load.waiting = waiting;
      endpoint.load.at = clock_.Now();
    });
  };
  set(1, 10);
  clock_.Advance(std::chrono::seconds(3));
  set(2, 4);
  std::string text = registry_.Render();
  EXPECT_THAT(text, HasSubstr("llm_d_epp_average_queue_size{name=\"p\"} 4"));
  EXPECT_THAT(text, HasSubstr("llm_d_epp_ready_endpoints{name=\"p\"} 2"));
  EXPECT_THAT(text, HasSubstr("queue_size{model_server_endpoint=\"b\",name=\"p\"} 4"));
  EXPECT_THAT(text, testing::Not(HasSubstr("model_server_endpoint=\"a\"")));
  // Not before the interval is over, but for membership and health.
  set(2, 6);
  EXPECT_THAT(registry_.Render(), HasSubstr("llm_d_epp_average_queue_size{name=\"p\"} 4"));
  clock_.Advance(std::chrono::seconds(5));
  set(2, 6);
  EXPECT_THAT(registry_.Render(), HasSubstr("llm_d_epp_average_queue_size{name=\"p\"} 6"));
  fleet.UpdateForTest(1, [](Endpoint& endpoint) { endpoint.health = Health::kUnhealthy; });
  EXPECT_THAT(registry_.Render(), HasSubstr("llm_d_epp_ready_endpoints{name=\"p\"} 1"));
  // They are old from when the next were due.
  fleet.UpdateForTest(2, [](Endpoint& e) { e.load.again = std::chrono::seconds(60); });
  clock_.Advance(std::chrono::seconds(61));
  EXPECT_THAT(registry_.Render(), HasSubstr("llm_d_epp_average_queue_size{name=\"p\"} 6"));
  clock_.Advance(std::chrono::seconds(10));
  EXPECT_THAT(registry_.Render(), testing::Not(HasSubstr("model_server_endpoint=\"b\"")));
}

TEST_F(FleetChangeTest, ShowsWhatIsInFlight) {
  FleetOptions options = Fast();
  options.deprecated_metrics = false;
  Fleet& fleet = Make(options);
  EndpointSpec spec = Spec("a", "10.0.0.1", 1);
  spec.ns = "team";
  fleet.SetEndpoints({spec});
  const auto ticket = fleet.inflight().Book(1, 0, 100, 300, 20);
  const std::string labels =
      "{endpoint_name=\"a\",fairness_id=\"\",namespace=\"team\",priority=\"\","
      "producer_name=\"inflight-load-producer\"}";
  std::string text = registry_.Render();
  EXPECT_THAT(text, HasSubstr("llm_d_epp_inflight_requests" + labels + " 1"));
  EXPECT_THAT(text, HasSubstr("llm_d_epp_inflight_tokens" + labels + " 120"));
  EXPECT_THAT(text, testing::Not(HasSubstr("inference_pool_")));
  fleet.SetEndpoints({});
  EXPECT_THAT(registry_.Render(), testing::Not(HasSubstr("endpoint_name=\"a\"")));
}

// Half of 200 endpoints are replaced every 50 ms for two seconds, under traffic and a listener.
TEST_F(FleetChangeTest, KeepsUpWithAFleetThatChangesAllTheTime) {
  constexpr size_t kEndpoints = 200;
  constexpr int kChanges = 40;
  LogCapture capture;
  FakeEngine engine;
  FleetOptions options = Fast();
  options.idle_interval = milliseconds(50);
  Fleet& fleet = Make(options);
  Mutex mutex;
  std::set<EndpointId> heard;
  fleet.OnChange([&](const Snapshot& snapshot) {
    MutexLock lock(mutex);
    heard.clear();
    for (const auto& endpoint : snapshot.endpoints) heard.insert(endpoint->id);
  });
  fleet.Start();
  std::vector<InflightTicket> tickets;
  std::set<EndpointId> seen;
  std::set<EndpointId> stable;
  auto next_change = std::chrono::steady_clock::now();
  for (int change = 0; change < kChanges; ++change) {
    std::vector<EndpointSpec> specs;
    for (size_t i = 0; i < kEndpoints; ++i) {
      const bool stays = i % 2 == 0;
      EndpointSpec spec = engine.Spec(fmt::format("e{}", i));
      spec.url.base_path = fmt::format("/{}", i);  // every address is another
      if (!stays) spec.url.base_path += fmt::format("/{}", change);
      spec.labels["change"] = std::to_string(change);
      specs.push_back(std::move(spec));
    }
    fleet.SetEndpoints(std::move(specs));
    const auto snapshot = fleet.snapshot();
    ASSERT_EQ(snapshot->endpoints.size(), kEndpoints);
    for (size_t i = 0; i < kEndpoints; ++i) {
      const EndpointId id = snapshot->endpoints[i]->id;
      ASSERT_EQ(snapshot->endpoints[i]->spec.labels.at("change"), std::to_string(change));
      if (i % 2 != 0) {
        ASSERT_TRUE(seen.insert(id).second) << "an id came back";
      } else if (change == 0) {
        stable.insert(id);
      } else {
        ASSERT_TRUE(stable.contains(id)) << "an endpoint that stayed has another id";
      }
      if (i % 10 < 2) {
        fleet.Touch(id);
        tickets.push_back(fleet.inflight().Book(id, 0, 1, 1));
      }
    }
    if (change % 7 == 0) registry_.Render();
    next_change += milliseconds(50);
    ASSERT_TRUE(Eventually([&] { return std::chrono::steady_clock::now() >= next_change; }));
  }
  const auto last = fleet.snapshot();
  ASSERT_TRUE(Eventually([&] {
    MutexLock lock(mutex);
    return heard.size() == kEndpoints &&
           std::all_of(last->endpoints.begin(), last->endpoints.end(),
                       [&](const auto& endpoint) { return heard.contains(endpoint->id); });
  }));
  // All were asked, and those who left count nowhere.
  ASSERT_TRUE(Eventually([&] {
    const auto now = fleet.snapshot();
    return std::none_of(now->endpoints.begin(), now->endpoints.end(),
                        [](const auto& endpoint) { return endpoint->health == Health::kUnknown; });
  }));
  int64_t booked = 0;
  for (EndpointId id = 0; id <= *seen.rbegin(); ++id) booked += fleet.inflight().Load(id).requests;
  EXPECT_EQ(booked, 20 * kChanges + 20);  // 20 stay, 20 of the last change
  tickets.clear();
  for (const auto& endpoint : last->endpoints) {
    EXPECT_EQ(fleet.inflight().Load(endpoint->id).requests, 0);
  }
  fleet.Stop();
}

// More endpoints than rounds at once: everyone's turn comes.
TEST_F(FleetChangeTest, AsksALargeFleetInTurns) {
  constexpr size_t kEndpoints = 1000;
  LogCapture capture;
  FakeEngine engine;
  FleetOptions options = Fast();
  options.idle_interval = std::chrono::hours(1);
  options.request_timeout = std::chrono::seconds(20);
  options.max_scrapes_per_second = 0;
  Fleet& fleet = Make(options);
  std::vector<EndpointSpec> specs;
  for (size_t i = 0; i < kEndpoints; ++i) specs.push_back(engine.Spec(fmt::format("e{}", i)));
  fleet.SetEndpoints(std::move(specs));
  fleet.Start();
  ASSERT_TRUE(Eventually([&] {
    const auto now = fleet.snapshot();
    return std::all_of(now->endpoints.begin(), now->endpoints.end(), [](const auto& endpoint) {
      return endpoint->health == Health::kHealthy && endpoint->load.block_size == 16;
    });
  }));
}

TEST_F(FleetChangeTest, AsksAllEndpointsTogetherNoMoreThanAllowed) {
  LogCapture capture;
  FakeEngine engine;
  FleetOptions options = Fast();
  options.max_scrapes_per_second = 40;
  Fleet& fleet = Make(options);
  std::vector<EndpointSpec> specs;
  for (size_t i = 0; i < 30; ++i) specs.push_back(engine.Spec(fmt::format("e{}", i)));
  fleet.SetEndpoints(std::move(specs));
  const auto began = std::chrono::steady_clock::now();
  fleet.Start();
  ASSERT_TRUE(Eventually([&] { return engine.scrapes >= 60; }));
  const auto taken = std::chrono::steady_clock::now() - began;
  EXPECT_GE(taken, milliseconds(900));
  const auto snapshot = fleet.snapshot();
  for (const auto& endpoint : snapshot->endpoints) {
    EXPECT_EQ(endpoint->health, Health::kHealthy) << endpoint->name();
  }
}

TEST_F(FleetChangeTest, AnotherIncarnationIsANewEndpoint) {
  FakeEngine engine;
  Fleet& fleet = Make(Fast());
  EndpointSpec spec = engine.Spec("pod");
  spec.incarnation = "uid#0";
  fleet.SetEndpoints({spec});
  fleet.Start();
  ASSERT_TRUE(BecomesHealthy());
  const EndpointId id = First()->id;
  const auto ticket = fleet.inflight().Book(id, 0, 1, 1);
  spec.labels = {{"a", "b"}};
  fleet.SetEndpoints({spec});
  EXPECT_EQ(First()->id, id);
  engine.health_status = 503;
  spec.incarnation = "uid#1";
  fleet.SetEndpoints({spec});
  EXPECT_NE(First()->id, id);
  EXPECT_NE(First()->health, Health::kHealthy);
  EXPECT_TRUE(First()->models.empty());
  EXPECT_EQ(fleet.inflight().Load(First()->id).requests, 0);
  engine.health_status = 200;
  EXPECT_TRUE(BecomesHealthy());
}

// Those that stay are the same ones, not asked anew.
TEST_F(FleetChangeTest, AChangeAmongThousandsIsInTheSnapshotAtOnce) {
  constexpr size_t kEndpoints = 2000;
  LogCapture capture;
  FleetOptions options = Fast();
  options.max_scrapes_per_second = 1;
  Fleet& fleet = Make(options);
  std::vector<EndpointSpec> specs;
  for (size_t i = 0; i < kEndpoints; ++i) {
    specs.push_back(Spec(fmt::format("e{}", i), fmt::format("10.0.{}.{}", i / 250, i % 250), 8000));
    specs.back().labels = {{"llm-d.ai/role", "decode"}, {"app", "vllm"}};
    specs.back().incarnation = fmt::format("uid-{}#0", i);
  }
  fleet.SetEndpoints(specs);
  const auto before = fleet.snapshot();
  for (size_t i = 0; i < 20; ++i) {
    specs.erase(specs.begin() + static_cast<ptrdiff_t>(7 * i));
    fleet.SetEndpoints(specs);
    ASSERT_EQ(fleet.snapshot()->endpoints.size(), kEndpoints - i - 1);
  }
  EXPECT_EQ(fleet.snapshot()->endpoints.back(), before->endpoints.back());
}

}  // namespace
}  // namespace warmpath::fleet
