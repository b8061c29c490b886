#include "extproc/health.h"

#include <gtest/gtest.h>

#include "health.pb.h"

namespace warmpath::extproc {
namespace {

namespace hpb = grpc::health::v1;
using net::GrpcStatus;

constexpr HealthInputs kReady{.pool_synced = true};

struct HealthCase {
  const char* name;
  HealthInputs inputs;
  bool ready;   // "", readiness, ext_proc
  bool legacy;  // inference-extension
};
class Healths : public ::testing::TestWithParam<HealthCase> {};
TEST_P(Healths, FollowWhatTheServiceStandsFor) {
  const auto serving = [](std::string_view service) {
    return HealthOf(service, GetParam().inputs) == Serving::kServing;
  };
  for (const char* name : {"", "readiness", "envoy.service.ext_proc.v3.ExternalProcessor"}) {
    EXPECT_EQ(serving(name), GetParam().ready) << name;
  }
  EXPECT_EQ(serving("inference-extension"), GetParam().legacy);
  EXPECT_TRUE(serving("liveness"));
  EXPECT_EQ(HealthOf("other", GetParam().inputs), std::nullopt);
}
INSTANTIATE_TEST_SUITE_P(
    All, Healths,
    ::testing::Values(
        HealthCase{"Ready", kReady, true, true}, HealthCase{"Starting", {}, false, false},
        HealthCase{
            "OtherProtocol", {.pool_synced = true, .protocol_compatible = false}, false, false},
        HealthCase{"PluginsNotReady", {.pool_synced = true, .plugins_ready = false}, false, true},
        HealthCase{"Draining", {.pool_synced = true, .draining = true}, false, false}),
    [](const auto& info) { return info.param.name; });

struct ElectionCase {
  const char* name;
  HealthInputs inputs;
  bool ready;
};
class HealthsWithElection : public ::testing::TestWithParam<ElectionCase> {};
TEST_P(HealthsWithElection, ServeOnTheLeaderOnly) {
  const HealthInputs& inputs = GetParam().inputs;
  const Serving expected = GetParam().ready ? Serving::kServing : Serving::kNotServing;
  for (const char* name : {"", "readiness", "envoy.service.ext_proc.v3.ExternalProcessor"}) {
    EXPECT_EQ(HealthOf(name, inputs), expected) << name;
  }
  EXPECT_EQ(HealthOf("liveness", inputs), Serving::kServing);
  EXPECT_EQ(HealthOf("inference-extension", inputs), std::nullopt);
  EXPECT_EQ(HealthOf("other", inputs), std::nullopt);
}
INSTANTIATE_TEST_SUITE_P(
    All, HealthsWithElection,
    ::testing::Values(
        ElectionCase{"Leader", {.pool_synced = true, .elects = true, .leading = true}, true},
        ElectionCase{"Follower", {.pool_synced = true, .elects = true}, false},
        ElectionCase{"LeaderStarting", {.elects = true, .leading = true}, false},
        ElectionCase{"LeaderPluginsNotReady",
                     {.pool_synced = true, .plugins_ready = false, .elects = true, .leading = true},
                     false},
        ElectionCase{"LeaderDraining",
                     {.pool_synced = true, .draining = true, .elects = true, .leading = true},
                     false}),
    [](const auto& info) { return info.param.name; });

class FakeStream final : public net::GrpcStream {
 public:
  net::Loop& loop() override { return loop_; }
  std::string_view peer() const override { return "test"; }
  void Send(std::string_view message) override { sent.emplace_back(message); }
  size_t queued_bytes() const override { return 0; }
  void SetReading(bool) override {}
  void MarkComplete() override {}
  void Finish(GrpcStatus status, std::string_view) override { finished = status; }

  std::vector<std::string> sent;
  std::optional<GrpcStatus> finished;

 private:
  net::Loop loop_{"test"};
};

std::shared_ptr<const std::function<HealthInputs()>> Inputs(HealthInputs inputs) {
  return std::make_shared<const std::function<HealthInputs()>>([inputs] { return inputs; });
}

TEST(HealthService, CheckAnswersForKnownServicesOnly) {
  for (const auto& [service, status] :
       std::vector<std::pair<std::string, GrpcStatus>>{{"", GrpcStatus::kOk},
                                                       {"liveness", GrpcStatus::kOk},
                                                       {"nobody", GrpcStatus::kNotFound}}) {
    FakeStream stream;
    const auto handler = MakeHealthHandler("/grpc.health.v1.Health/Check", stream, Inputs(kReady));
    ASSERT_NE(handler, nullptr);
    hpb::HealthCheckRequest request;
    request.set_service(service);
    handler->OnMessage(request.SerializeAsString());
    handler->OnHalfClose();
    EXPECT_EQ(stream.finished, status) << service;
    ASSERT_EQ(stream.sent.size(), status == GrpcStatus::kOk ? 1u : 0u);
    if (stream.sent.empty()) continue;
    hpb::HealthCheckResponse response;
    ASSERT_TRUE(response.ParseFromString(stream.sent.front()));
    EXPECT_EQ(response.status(), hpb::HealthCheckResponse::SERVING);
  }
}

TEST(HealthService, ListNamesEveryService) {
  FakeStream stream;
  const auto handler = MakeHealthHandler("/grpc.health.v1.Health/List", stream,
                                         Inputs({.pool_synced = true, .draining = true}));
  ASSERT_NE(handler, nullptr);
  handler->OnMessage("");
  ASSERT_EQ(stream.sent.size(), 1u);
  hpb::HealthListResponse response;
  ASSERT_TRUE(response.ParseFromString(stream.sent.front()));
  EXPECT_EQ(response.statuses().size(), HealthServices().size());
  EXPECT_EQ(response.statuses().at("liveness").status(), hpb::HealthCheckResponse::SERVING);
  EXPECT_EQ(response.statuses().at("").status(), hpb::HealthCheckResponse::NOT_SERVING);
}

TEST(HealthService, UnknownServicesAreSaidToBeSoWhenLeadersAreElected) {
  constexpr HealthInputs kFollower{.pool_synced = true, .elects = true};
  for (const auto& [service, status] :
       std::vector<std::pair<std::string, hpb::HealthCheckResponse::ServingStatus>>{
           {"", hpb::HealthCheckResponse::NOT_SERVING},
           {"liveness", hpb::HealthCheckResponse::SERVING},
           {"inference-extension", hpb::HealthCheckResponse::SERVICE_UNKNOWN},
           {"nobody", hpb::HealthCheckResponse::SERVICE_UNKNOWN}}) {
    FakeStream stream;
    const auto handler =
        MakeHealthHandler("/grpc.health.v1.Health/Check", stream, Inputs(kFollower));
    hpb::HealthCheckRequest request;
    request.set_service(service);
    handler->OnMessage(request.SerializeAsString());
    EXPECT_EQ(stream.finished, GrpcStatus::kOk) << service;
    ASSERT_EQ(stream.sent.size(), 1u);
    hpb::HealthCheckResponse response;
    ASSERT_TRUE(response.ParseFromString(stream.sent.front()));
    EXPECT_EQ(response.status(), status) << service;
  }
  FakeStream stream;
  MakeHealthHandler("/grpc.health.v1.Health/List", stream, Inputs(kFollower))->OnMessage("");
  ASSERT_EQ(stream.sent.size(), 1u);
  hpb::HealthListResponse response;
  ASSERT_TRUE(response.ParseFromString(stream.sent.front()));
  EXPECT_EQ(response.statuses().size(), 4u);
  EXPECT_EQ(response.statuses().count("inference-extension"), 0u);
}

TEST(HealthService, OtherMethodsAndBrokenCallsAreRefused) {
  FakeStream stream;
  EXPECT_EQ(MakeHealthHandler("/grpc.health.v1.Health/Watch", stream, Inputs(kReady)), nullptr);
  auto handler = MakeHealthHandler("/grpc.health.v1.Health/Check", stream, Inputs(kReady));
  handler->OnMessage("\xff\xff");
  EXPECT_EQ(stream.finished, GrpcStatus::kInvalidArgument);
  FakeStream silent;
  handler = MakeHealthHandler("/grpc.health.v1.Health/Check", silent, Inputs(kReady));
  handler->OnHalfClose();
  EXPECT_EQ(silent.finished, GrpcStatus::kInvalidArgument);
}

}  // namespace
}  // namespace warmpath::extproc
