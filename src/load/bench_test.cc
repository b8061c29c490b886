#include "load/bench.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>

#include "codec/json.h"
#include "net/http_server.h"

namespace warmpath::load {
namespace {

net::Url Loopback(uint16_t port) {
  net::Url url;
  url.address = {"127.0.0.1", port};
  return url;
}

// Answers completions with a fixed stream; keeps what was asked.
class FakeEngine {
 public:
  FakeEngine() : loop_("fake") {
    auto server = net::HttpServer::Listen(
        loop_, {"127.0.0.1", 0}, {},
        [this](std::shared_ptr<net::HttpExchange> exchange) { Answer(*exchange); });
    EXPECT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    loop_.Start();
  }
  ~FakeEngine() {
    server_->Stop(std::chrono::seconds(1));
    loop_.Run([this] { held_.clear(); });
    loop_.Stop();
  }

  net::Url url() const { return Loopback(server_->port()); }
  std::multiset<std::string> bodies() const {
    std::lock_guard lock(mutex_);
    return bodies_;
  }

  int status = 200;
  bool break_stream = false;
  bool hang = false;
  net::Headers extra;

 private:
  void Answer(net::HttpExchange& exchange) {
    if (exchange.request().path() == "/v1/models") {
      exchange.Respond(200, {}, R"({"object":"list","data":[{"id":"fake-model"}]})");
      return;
    }
    {
      std::lock_guard lock(mutex_);
      bodies_.insert(exchange.request().body);
    }
    if (status != 200) {
      exchange.Respond(status, {}, "too busy");
      return;
    }
    net::Headers headers{{"Content-Type", "text/event-stream"}};
    for (const auto& [name, value] : extra) headers.Add(name, value);
    exchange.Begin(200, headers);
    exchange.Write("data: {\"choices\":[{\"index\":0,\"text\":\"a\"}]}\n\n");
    if (hang) return;
    if (break_stream) {
      exchange.Abort();
      return;
    }
    exchange.Write("data: {\"choices\":[{\"index\":0,\"text\":\"b\"}]}\n\n");
    exchange.Write(
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":2,"
        "\"prompt_tokens_details\":{\"cached_tokens\":64}}}\n\ndata: [DONE]\n\n");
    exchange.End();
  }

  mutable std::mutex mutex_;
  std::multiset<std::string> bodies_;
  net::Loop loop_;
  std::unique_ptr<net::HttpServer> server_;
  std::vector<std::shared_ptr<net::HttpExchange>> held_;
};

BenchOptions Options(std::vector<Side> sides) {
  BenchOptions options;
  options.workload = {
      .groups = 2, .prompts_per_group = 2, .system_tokens = 8, .question_tokens = 4};
  options.workload.model = "m";
  options.sides = std::move(sides);
  options.request_timeout = std::chrono::seconds(20);
  return options;
}

TEST(Bench, OpenLoopSendsEverythingAndReadsTheAnswers) {
  FakeEngine engine;
  engine.extra = {{"x-warmpath-endpoint", "10.0.0.1:8000"}, {"x-warmpath-cached-tokens", "64"}};
  BenchOptions options = Options({{.name = "one", .targets = {engine.url()}, .endpoints = 2}});
  options.rate = 500;
  options.requests = 50;
  options.loops = 2;
  const auto report = RunBench(options);
  ASSERT_TRUE(report) << report.error().message;
  const SideReport& side = report->sides[0];
  EXPECT_EQ(side.requests, 50u);
  EXPECT_EQ(side.errors, 0u);
  EXPECT_EQ(side.prompt_tokens, 5000u);
  EXPECT_DOUBLE_EQ(side.hit_rate, 0.64);
  EXPECT_EQ(side.completion_tokens, 100u);
  EXPECT_EQ(side.endpoint_requests.at("10.0.0.1:8000"), 50u);
  EXPECT_DOUBLE_EQ(side.imbalance, 2);
  EXPECT_DOUBLE_EQ(side.prediction_exact, 1);
  EXPECT_EQ(side.itl.count, 50u);
  EXPECT_GT(side.ttft.p50, 0);
  EXPECT_LE(side.ttft.p50, side.e2e.p50);
}

TEST(Bench, SidesGetTheSameRequests) {
  FakeEngine a, b;
  BenchOptions options =
      Options({{.name = "a", .targets = {a.url()}}, {.name = "b", .targets = {b.url()}}});
  options.rate = 1000;
  options.requests = 20;
  const auto report = RunBench(options);
  ASSERT_TRUE(report);
  EXPECT_EQ(a.bodies().size(), 20u);
  EXPECT_EQ(a.bodies(), b.bodies());
}

TEST(Bench, SeveralTargetsAreTakenInTurn) {
  FakeEngine a, b, c;
  BenchOptions options = Options({{.name = "rr", .targets = {a.url(), b.url(), c.url()}}});
  options.rate = 1000;
  options.requests = 30;
  const auto report = RunBench(options);
  ASSERT_TRUE(report);
  EXPECT_EQ(a.bodies().size(), 10u);
  EXPECT_EQ(b.bodies().size(), 10u);
  EXPECT_EQ(report->sides[0].endpoint_requests.at(c.url().address.ToString()), 10u);
  EXPECT_DOUBLE_EQ(report->sides[0].imbalance, 1);
}

TEST(Bench, ClosedLoopWithWarmUpMeasuresTheRest) {
  FakeEngine engine;
  BenchOptions options = Options({{.name = "x", .targets = {engine.url()}}});
  options.concurrency = 3;
  options.requests = 20;
  options.warmup_requests = 5;
  const auto report = RunBench(options);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(engine.bodies().size(), 25u);
  EXPECT_EQ(report->sides[0].requests, 20u);
  EXPECT_EQ(report->sides[0].errors, 0u);
}

TEST(Bench, ModelIsLearnedFromTheTarget) {
  FakeEngine engine;
  BenchOptions options = Options({{.name = "x", .targets = {engine.url()}}});
  options.workload.model.clear();
  options.concurrency = 1;
  options.requests = 1;
  const auto report = RunBench(options);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->model, "fake-model");
  EXPECT_NE(engine.bodies().begin()->find("\"fake-model\""), std::string::npos);
}

TEST(Bench, FailuresAreCountedByKind) {
  FakeEngine busy, cut;
  busy.status = 503;
  cut.break_stream = true;
  // Nobody listens on a port that was just given back.
  net::Url nobody;
  {
    FakeEngine gone;
    nobody = gone.url();
  }
  BenchOptions options = Options({{.name = "busy", .targets = {busy.url()}},
                                  {.name = "cut", .targets = {cut.url()}},
                                  {.name = "nobody", .targets = {nobody}}});
  options.concurrency = 2;
  options.requests = 6;
  const auto report = RunBench(options);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->sides[0].error_kinds.at("http_503"), 6u);
  // A reset may also discard the head that was under way.
  auto cut_kinds = report->sides[1].error_kinds;
  EXPECT_EQ(cut_kinds["broken"] + cut_kinds["reset"], 6u);
  EXPECT_EQ(report->sides[2].error_kinds.at("connect"), 6u);
  EXPECT_EQ(report->sides[2].ttft.count, 0u);
  EXPECT_EQ(report->sides[0].error_examples.at("http_503"), "too busy");
  EXPECT_NE(FormatTable(*report).find("http_503: too busy"), std::string::npos);
}

TEST(Bench, StopEndsWhatHangsAndLeavesItOut) {
  FakeEngine engine;
  engine.hang = true;
  BenchOptions options = Options({{.name = "x", .targets = {engine.url()}}});
  options.concurrency = 2;
  options.requests = 100;
  std::atomic<bool> stop{false};
  options.stop = &stop;
  uint64_t seen = 0;
  const auto report = RunBench(options, [&](const Progress& progress) {
    seen = progress.sides[0].in_flight;
    if (seen == 2) stop = true;
  });
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->stopped);
  EXPECT_EQ(report->sides[0].requests, 0u);
}

TEST(Bench, AnAnswerThatStopsComingIsATimeout) {
  FakeEngine engine;
  engine.hang = true;
  BenchOptions options = Options({{.name = "x", .targets = {engine.url()}}});
  options.rate = 100;
  options.requests = 2;
  options.request_timeout = std::chrono::milliseconds(200);
  const auto report = RunBench(options);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->sides[0].errors, 2u);
}

TEST(Bench, BadOptionsAreRefused) {
  BenchOptions options = Options({{.name = "x", .targets = {Loopback(1)}}});
  options.requests = 1;
  EXPECT_FALSE(RunBench(options));  // neither rate nor concurrency
  options.rate = 1;
  options.concurrency = 1;
  EXPECT_FALSE(RunBench(options));
  options.concurrency = 0;
  options.requests = 0;
  EXPECT_FALSE(RunBench(options));  // no end
  options.duration = std::chrono::hours(24);
  options.rate = 1e9;
  EXPECT_FALSE(RunBench(options));
  options.sides.clear();
  EXPECT_FALSE(RunBench(options));
}

}  // namespace
}  // namespace warmpath::load
