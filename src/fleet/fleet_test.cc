#include "fleet/fleet.h"

#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <string>

#include "base/log.h"
#include "base/mutex.h"
#include "fleet/testing.h"

namespace warmpath::fleet {
namespace {

using std::chrono::milliseconds;

class FleetTest : public testing::Test {
 protected:
  FleetTest() : loop_("fleet") { loop_.Start(); }
  ~FleetTest() override {
    if (fleet_) fleet_->Stop();
    loop_.Stop();
  }

  Fleet& Make(FleetOptions options = Fast()) {
    fleet_ = std::make_unique<Fleet>(loop_, std::move(options), registry_, SystemClock());
    return *fleet_;
  }
  static FleetOptions Fast() {
    FleetOptions options;
    options.active_interval = milliseconds(10);
    options.idle_interval = milliseconds(20);
    options.idle_scrape_interval = {};
    options.models_interval = milliseconds(50);
    return options;
  }
  std::shared_ptr<const Endpoint> First() { return fleet_->snapshot()->endpoints.at(0); }
  bool BecomesHealthy() {
    return Eventually([&] { return First()->health == Health::kHealthy; });
  }

  net::Loop loop_;
  Registry registry_;
  std::unique_ptr<Fleet> fleet_;
};

TEST_F(FleetTest, LearnsModelsVersionAndLoad) {
  FakeEngine engine;
  engine.running = 1;
  engine.waiting = 3;
  FleetOptions options = Fast();
  options.api_key = "secret";
  Fleet& fleet = Make(options);
  fleet.SetEndpoints({engine.Spec()});
  EXPECT_EQ(First()->health, Health::kUnknown);
  fleet.Start();
  ASSERT_TRUE(BecomesHealthy());
  const auto endpoint = First();
  EXPECT_EQ(endpoint->models.at(0).id, "m");
  EXPECT_EQ(endpoint->engine_version, "0.14.1");
  EXPECT_EQ(endpoint->load.waiting, 3);
  EXPECT_EQ(endpoint->load.running, 1);
  EXPECT_DOUBLE_EQ(endpoint->load.kv_usage, 0.5);
  EXPECT_EQ(endpoint->load.block_size, 16u);
  EXPECT_EQ(endpoint->load.kv_blocks, 100u);
  EXPECT_NE(endpoint->load.at, TimePoint{});
  EXPECT_EQ(engine.authorization(), "Bearer secret");
}

TEST_F(FleetTest, FollowsAnEngineThatComesLateGoesAwayAndReturns) {
  uint16_t port = 0;
  EndpointSpec spec;
  {
    FakeEngine reserve;
    port = reserve.port();
    spec = reserve.Spec();
  }
  Fleet& fleet = Make();
  fleet.SetEndpoints({spec});
  fleet.Start();
  ASSERT_TRUE(Eventually([&] { return First()->health == Health::kUnhealthy; }));
  EXPECT_FALSE(First()->health_reason.empty());
  const EndpointId id = First()->id;
  {
    FakeEngine engine(port);
    ASSERT_TRUE(BecomesHealthy());
    EXPECT_TRUE(First()->health_reason.empty());
  }
  ASSERT_TRUE(Eventually([&] { return First()->health == Health::kUnhealthy; }));
  FakeEngine engine(port);
  engine.SetModel("other");
  ASSERT_TRUE(BecomesHealthy());
  EXPECT_EQ(First()->models.at(0).id, "other");
  EXPECT_EQ(First()->id, id);
}

TEST_F(FleetTest, CallsAnEngineUnhealthyAfterFailuresInARowOnly) {
  FakeEngine engine;
  FleetOptions options = Fast();
  options.failures_to_unhealthy = 3;
  Fleet& fleet = Make(options);
  fleet.SetEndpoints({engine.Spec()});
  fleet.Start();
  ASSERT_TRUE(BecomesHealthy());
  const int asked = engine.healths;
  engine.health_status = 503;
  ASSERT_TRUE(Eventually([&] { return First()->health == Health::kUnhealthy; }));
  EXPECT_GE(engine.healths, asked + 3);
  EXPECT_EQ(First()->health_reason, "GET /health answered 503");
  engine.health_status = 200;
  ASSERT_TRUE(BecomesHealthy());
}

TEST_F(FleetTest, MarksAReportedFailureAtOnceAndAsksAgainSoon) {
  FakeEngine engine;
  FleetOptions options = Fast();
  options.idle_interval = std::chrono::hours(1);
  Fleet& fleet = Make(options);
  fleet.SetEndpoints({engine.Spec()});
  fleet.Start();
  ASSERT_TRUE(BecomesHealthy());
  fleet.ReportFailure(First()->id, "connection refused");
  EXPECT_EQ(First()->health, Health::kUnhealthy);
  EXPECT_EQ(First()->health_reason, "connection refused");
  ASSERT_TRUE(BecomesHealthy());
  fleet.ReportFailure(12345, "nobody");
}

TEST_F(FleetTest, AsksMoreOftenUnderTraffic) {
  FakeEngine engine;
  FleetOptions options = Fast();
  options.idle_interval = std::chrono::hours(1);
  options.models_interval = std::chrono::hours(1);
  Fleet& fleet = Make(options);
  fleet.SetEndpoints({engine.Spec()});
  fleet.Start();
  ASSERT_TRUE(BecomesHealthy());
  EXPECT_EQ(engine.healths, 1);
  EXPECT_EQ(engine.scrapes, 1);
  engine.waiting = 42;
  fleet.Touch(First()->id);
  ASSERT_TRUE(Eventually([&] { return First()->load.waiting == 42; }));
  ASSERT_TRUE(Eventually([&] { return engine.healths >= 4; }));
  EXPECT_EQ(engine.model_lists, 1);
}

TEST_F(FleetTest, KeepsTheOldLoadWhenMetricsFail) {
  FakeEngine engine;
  engine.waiting = 7;
  Fleet& fleet = Make();
  fleet.SetEndpoints({engine.Spec()});
  fleet.Start();
  ASSERT_TRUE(BecomesHealthy());
  engine.broken_metrics = true;
  const int before = engine.healths;
  ASSERT_TRUE(Eventually([&] { return engine.healths >= before + 4; }));
  EXPECT_EQ(First()->health, Health::kHealthy);
  EXPECT_EQ(First()->load.waiting, 7);
  EXPECT_NE(registry_.Render().find(
                "llm_d_epp_datalayer_poll_errors_total{source_type=\"metrics-data-source\"}"),
            std::string::npos);
}

TEST_F(FleetTest, SaysOnceWhichFlagAnEngineWithAKeyNeeds) {
  LogCapture capture;
  FakeEngine engine;
  engine.models_status = 401;
  Fleet& fleet = Make();
  fleet.SetEndpoints({engine.Spec()});
  fleet.Start();
  ASSERT_TRUE(Eventually([&] { return engine.model_lists >= 3; }));
  engine.models_status = 200;
  ASSERT_TRUE(Eventually([&] { return !First()->models.empty(); }));
  const std::string log = capture.text();
  const size_t found = log.find("--engine-api-key-file");
  ASSERT_NE(found, std::string::npos) << log;
  EXPECT_EQ(log.find("--engine-api-key-file", found + 1), std::string::npos) << log;
}

TEST_F(FleetTest, NoticesNewModelsAndTellsListeners) {
  FakeEngine engine;
  Fleet& fleet = Make();
  Mutex mutex;
  std::set<std::string> heard;
  fleet.OnChange([&](const Snapshot& snapshot) {
    MutexLock lock(mutex);
    for (const auto& endpoint : snapshot.endpoints) {
      for (const auto& model : endpoint->models) heard.insert(model.id);
    }
  });
  const auto has_heard = [&](const std::string& what) {
    MutexLock lock(mutex);
    return heard.contains(what);
  };
  fleet.SetEndpoints({engine.Spec()});
  fleet.Start();
  ASSERT_TRUE(Eventually([&] { return has_heard("m"); }));
  engine.SetModel("new-adapter");
  ASSERT_TRUE(Eventually([&] { return has_heard("new-adapter"); }));
  fleet.Stop();
}

TEST_F(FleetTest, KeepsIdentityOfEndpointsThatStay) {
  FakeEngine first;
  FakeEngine second;
  Fleet& fleet = Make();
  fleet.SetEndpoints({first.Spec("a")});
  fleet.Start();
  ASSERT_TRUE(BecomesHealthy());
  const EndpointId id = First()->id;
  EndpointSpec relabelled = first.Spec("a");
  relabelled.labels["role"] = "decode";
  fleet.SetEndpoints({second.Spec("b"), relabelled});
  const auto snapshot = fleet.snapshot();
  ASSERT_EQ(snapshot->endpoints.size(), 2u);
  EXPECT_EQ(snapshot->endpoints[1]->id, id);
  EXPECT_EQ(snapshot->endpoints[1]->health, Health::kHealthy);
  EXPECT_EQ(snapshot->endpoints[1]->spec.labels.at("role"), "decode");
  EXPECT_NE(snapshot->endpoints[0]->id, id);
  ASSERT_TRUE(Eventually([&] { return First()->health == Health::kHealthy; }));
  const auto ticket = fleet.inflight().Book(id, 0, 1, 1);
  fleet.SetEndpoints({second.Spec("b")});
  EXPECT_EQ(fleet.snapshot()->Find(id), nullptr);
  EXPECT_EQ(fleet.inflight().Load(id).requests, 0);
  fleet.SetEndpoints({first.Spec("a")});
  EXPECT_NE(First()->id, id);
}

TEST_F(FleetTest, RendersPoolMetricsAndForgetsThoseWhoLeft) {
  Fleet& fleet = Make();
  EndpointSpec spec;
  for (const char* name : {"a", "b"}) {
    spec.name = name;
    spec.url.address = {name, 1};
    auto specs = std::vector<EndpointSpec>{};
    const auto before = fleet.snapshot();
    for (const auto& endpoint : before->endpoints) specs.push_back(endpoint->spec);
    specs.push_back(spec);
    fleet.SetEndpoints(specs);
  }
  int waiting = 0;
  const auto all = fleet.snapshot();
  for (const auto& endpoint : all->endpoints) {
    fleet.UpdateForTest(endpoint->id, [&](Endpoint& change) {
      change.health = Health::kHealthy;
      change.load.kv_usage = 0.5;
      change.load.waiting = waiting += 2;
      change.load.at = SystemClock().Now();
    });
  }
  std::string text = registry_.Render();
  for (const char* line :
       {"llm_d_epp_ready_endpoints{name=\"default\"} 2",
        "llm_d_epp_average_kv_cache_utilization{name=\"default\"} 0.5",
        "llm_d_epp_average_queue_size{name=\"default\"} 3",
        "llm_d_epp_std_dev_queue_size{name=\"default\"} 1", "inference_pool_ready_pods",
        "warmpath_endpoint_healthy{endpoint=\"b\"} 1"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
  fleet.SetEndpoints({fleet.snapshot()->endpoints[0]->spec});
  text = registry_.Render();
  EXPECT_EQ(text.find("endpoint=\"b\""), std::string::npos) << text;
}

TEST_F(FleetTest, StopsInTheMiddleOfEverything) {
  FakeEngine engine;
  for (int i = 0; i < 20; ++i) {
    Fleet& fleet = Make();
    fleet.SetEndpoints({engine.Spec()});
    fleet.Start();
    fleet.Touch(First()->id);
    if (i % 2) fleet.SetEndpoints({});
    fleet.Stop();
    fleet.Stop();
    fleet_.reset();
  }
}

}  // namespace
}  // namespace warmpath::fleet
