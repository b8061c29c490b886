// The gateway between a client that sees the very bytes and engines whose answers the test writes.
#include "gateway/gateway.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <mutex>

#include "net/testing.h"

namespace warmpath::gateway {
namespace {

using namespace std::chrono_literals;
using net::testing::Eventually;
using net::testing::RawClient;
using Exchange = std::shared_ptr<net::HttpExchange>;

class FakeEvents final : public events::EventsManager {
 public:
  void SetEndpoints(const fleet::Snapshot&) override {}
  void NoteTraffic(fleet::EndpointId, uint64_t) override {}
  std::vector<events::PublisherStatus> status() const override { return {}; }
  std::vector<fleet::EndpointId> flowing() const override { return {}; }
  uint32_t block_size(fleet::EndpointId) const override { return 16; }
  uint16_t bound_port() const override { return 0; }
  void Start() override {}
  void Unbind() override {}
  void Stop() override {}
};

class GatewayTest : public ::testing::Test {
 protected:
  ~GatewayTest() override {
    if (gateway_) gateway_->Stop(0s);
    for (auto& engine : engines_) engine->Stop(0s);
    loops_.Stop();
    pool_.Stop();
    engine_loop_.Stop();
  }

  // `answer(n, exchange)`: n counts requests over all engines, from 0.
  using Answer = std::function<void(int, Exchange)>;
  void StartEngines(size_t count, Answer answer, const std::string& options = "") {
    std::vector<std::string> flags;
    for (size_t i = 0; i < count; ++i) {
      auto engine = net::HttpServer::Listen(
          engine_loop_, {"127.0.0.1", 0}, {},
          [this, answer](Exchange exchange) { answer(seen_++, std::move(exchange)); });
      ASSERT_TRUE(engine);
      flags.push_back("http://" + (*engine)->address().ToString() + options);
      engines_.push_back(std::move(*engine));
    }
    engine_loop_.Start();
    SetEndpoints(flags);
  }
  void SetEndpoints(const std::vector<std::string>& flags) {
    auto specs = fleet::ParseEndpoints(flags, /*bind_mode=*/true);
    ASSERT_TRUE(specs) << specs.error().message;
    fleet_.SetEndpoints(*specs);
    const auto snapshot = fleet_.snapshot();
    for (const auto& endpoint : snapshot->endpoints) Learn(endpoint->id, fleet::Health::kHealthy);
  }
  void Learn(fleet::EndpointId id, fleet::Health health) {
    fleet_.UpdateForTest(id, [health](fleet::Endpoint& endpoint) {
      endpoint.health = health;
      endpoint.models = {{"m", "m", ""}, {"adapter", "m", "m"}};
    });
  }
  void StartGateway(GatewayOptions options = {}) {
    options.listen = {{"127.0.0.1", 0}};
    auto gateway =
        Gateway::Create(loops_, options, {director_, fleet_, pool_, metrics_, SystemClock()});
    ASSERT_TRUE(gateway) << gateway.error().message;
    gateway_ = std::move(*gateway);
    loops_.Start();
  }
  uint16_t port() const { return gateway_->addresses().front().port; }

  static std::string Post(const std::string& body, const std::string& headers = "",
                          const std::string& path = "/v1/completions") {
    return fmt::format("POST {} HTTP/1.1\r\nHost: g\r\nContent-Length: {}\r\n{}\r\n{}", path,
                       body.size(), headers, body);
  }
  // One request on a connection of its own; the whole answer.
  std::string Ask(const std::string& bytes) {
    RawClient client(port());
    const size_t head = bytes.find("\r\n");
    client.Send(bytes.substr(0, head) + "\r\nConnection: close" + bytes.substr(head));
    EXPECT_TRUE(client.ReadToEnd());
    return client.received();
  }
  static std::string BodyOf(const std::string& answer) {
    return answer.substr(answer.find("\r\n\r\n") + 4);
  }
  int64_t InFlight() {
    int64_t sum = 0;
    const auto snapshot = fleet_.snapshot();
    for (const auto& endpoint : snapshot->endpoints)
      sum += fleet_.inflight().Load(endpoint->id).requests;
    return sum;
  }
  static void Ok(const Exchange& exchange) {
    exchange->Respond(200, {{"Content-Type", "application/json"}}, "{}");
  }

  Registry metrics_;
  net::Loop fleet_loop_{"fleet"};
  net::Loop engine_loop_{"engines"};
  net::LoopGroup loops_{"gateway", 2};
  CpuPool pool_{"pool", 1, 16};
  index::KvIndex index_{64 << 20};
  FakeEvents events_;
  std::unique_ptr<scheduling::Scheduler> scheduler_ =
      *scheduling::Scheduler::Create(scheduling::DefaultSchedulerSpec());
  fleet::Fleet fleet_{fleet_loop_, {}, metrics_, SystemClock()};
  routing::Director director_{{fleet_, index_, &events_, *scheduler_, metrics_, SystemClock()}, {}};
  std::vector<std::unique_ptr<net::HttpServer>> engines_;
  std::atomic<int> seen_{0};
  std::unique_ptr<Gateway> gateway_;
};

const std::string kBody = R"({"model":"m","prompt":[1,2,3]})";

TEST_F(GatewayTest, BodiesPassByteForByteBothWays) {
  std::string received;
  std::string target;
  std::string reply;
  for (int i = 0; i < 300'000; ++i) reply += static_cast<char>(i * 37 >> 2);
  StartEngines(1, [&](int, Exchange exchange) {
    received = exchange->request().body;
    target = exchange->request().target;
    exchange->Respond(200, {{"Content-Type", "application/octet-stream"}}, reply);
  });
  StartGateway();
  // Small bodies are prepared on the loop, large ones on the pool.
  for (const size_t size : {10u, 300'000u}) {
    const std::string body = "  {\"model\" : \"m\",\t\"prompt\":\"" + std::string(size, 'x') +
                             "\\u00e4\" ,\"n\":1.0e0}\n";
    const std::string answer = Ask(Post(body, "", "/v1/completions?x=%20y"));
    EXPECT_TRUE(received == body);
    EXPECT_EQ(target, "/v1/completions?x=%20y");
    EXPECT_TRUE(BodyOf(answer) == reply);
    EXPECT_NE(answer.find("Content-Length: 300000\r\n"), std::string::npos);
  }
}

TEST_F(GatewayTest, HeadersCrossCleaned) {
  net::Headers received;
  StartEngines(1, [&](int, Exchange exchange) {
    received = exchange->request().headers;
    exchange->Respond(200, {{"X-Engine", "yes"}, {"x-request-id", "engine's own"}}, "{}");
  });
  StartGateway();
  const std::string answer =
      Ask(Post(kBody,
               "Authorization: Bearer k\r\nx-gateway-destination-endpoint: "
               "1.2.3.4:5\r\nx-data-parallel-rank: 7\r\n"
               "x-warmpath-endpoint: e\r\nx-request-id: mine\r\nKeep-Alive: 5\r\n"));
  EXPECT_EQ(received.Get("authorization"), "Bearer k");
  EXPECT_EQ(received.Get("x-request-id"), "mine");
  EXPECT_EQ(received.Get("host"), engines_[0]->address().ToString());
  for (const char* name : {"x-gateway-destination-endpoint", "x-data-parallel-rank",
                           "x-warmpath-endpoint", "keep-alive", "connection"}) {
    EXPECT_FALSE(received.Get(name)) << name;
  }
  EXPECT_NE(answer.find("x-request-id: mine\r\n"), std::string::npos);
  EXPECT_EQ(answer.find("engine's own"), std::string::npos);
  EXPECT_NE(answer.find("X-Engine: yes\r\n"), std::string::npos);
  EXPECT_EQ(answer.find("x-warmpath"), std::string::npos);
  // Without one, an id is made, sent and echoed.
  const std::string other = Ask(Post(kBody));
  const std::string made(received.Get("x-request-id").value_or(""));
  EXPECT_EQ(made.size(), 36u);
  EXPECT_NE(other.find("x-request-id: " + made + "\r\n"), std::string::npos);
}

TEST_F(GatewayTest, TheDecisionIsShownAndTheRankPinnedWhenAskedFor) {
  std::string rank;
  StartEngines(
      1,
      [&](int, Exchange exchange) {
        rank = exchange->request().headers.Get("X-data-parallel-rank").value_or("none");
        Ok(exchange);
      },
      ",dp=2,name=engine-a");
  GatewayOptions options;
  options.expose_decision = true;
  options.engine_api_key = "engine-key";
  StartGateway(options);
  const std::string answer = Ask(Post(kBody));
  EXPECT_NE(answer.find("x-warmpath-endpoint: engine-a\r\nx-warmpath-cached-tokens: 0\r\n"),
            std::string::npos)
      << answer;
  EXPECT_TRUE(rank == "0" || rank == "1") << rank;
}

TEST_F(GatewayTest, ARewriteChangesTheModelAndNothingElseOfTheBody) {
  std::vector<std::string> received;
  StartEngines(2, [&](int n, Exchange exchange) {
    received.push_back(exchange->request().body);
    if (n == 0) {
      exchange->Respond(503, {}, "busy");
    } else {
      Ok(exchange);
    }
  });
  director_.SetPolicies(std::make_shared<const routing::Policies>(
      routing::Policies{{}, {{"canary", 1, {{{"m"}, {{"adapter", 1}}}}}}}));
  StartGateway();
  const std::string answer =
      Ask(Post(R"({ "seed":9007199254740993, "model" : "m","prompt":[1,2,3] })"));
  EXPECT_EQ(answer.substr(0, 15), "HTTP/1.1 200 OK");
  const std::string expected =
      R"({ "seed":9007199254740993, "model" : "adapter","prompt":[1,2,3] })";
  EXPECT_EQ(received, (std::vector<std::string>{expected, expected})) << "a retry asks the same";
}

TEST_F(GatewayTest, AClientNamesItsObjectiveButNeitherModelNorEndpointBeyondTheBody) {
  net::Headers received;
  std::string body;
  StartEngines(1, [&](int, Exchange exchange) {
    received = exchange->request().headers;
    body = exchange->request().body;
    Ok(exchange);
  });
  StartGateway();
  Ask(Post(kBody,
           "x-llm-d-model-name-rewrite: adapter\r\nx-gateway-model-name-rewrite: adapter\r\n"
           "x-gateway-inference-fairness-id: tenant\r\nx-llm-d-inference-objective: batch\r\n"));
  EXPECT_EQ(body, kBody);
  for (const auto& [name, value] : received) {
    EXPECT_FALSE(name.starts_with("x-llm-d") || name.starts_with("x-gateway")) << name;
  }
  EXPECT_NE(metrics_.Render().find("llm_d_epp_request_total{fairness_id=\"tenant\",model_name="
                                   "\"m\",priority=\"0\",target_model_name=\"m\"} 1"),
            std::string::npos);
}

TEST_F(GatewayTest, WhatPluginsSetOnAnAnswerReachesTheClient) {
  auto scheduler =
      scheduling::Scheduler::Create({.plugins = {{"session-affinity-scorer", "", "{}"}},
                                     .profiles = {},
                                     .saturation_detector = ""},
                                    {.allow_experimental = true});
  ASSERT_TRUE(scheduler) << scheduler.error().message;
  routing::Director director{{fleet_, index_, &events_, **scheduler, metrics_, SystemClock()}, {}};
  StartEngines(2, [](int, Exchange exchange) { Ok(exchange); });
  GatewayOptions options;
  options.listen = {{"127.0.0.1", 0}};
  options.expose_decision = true;
  gateway_ = *Gateway::Create(loops_, options, {director, fleet_, pool_, metrics_, SystemClock()});
  loops_.Start();
  const auto value_of = [](const std::string& answer, const std::string& name) {
    const size_t at = answer.find(name + ": ");
    if (at == std::string::npos) return std::string();
    const size_t from = at + name.size() + 2;
    return answer.substr(from, answer.find("\r\n", from) - from);
  };
  const std::string first = Ask(Post(kBody));
  const std::string token = value_of(first, "x-session-token");
  ASSERT_FALSE(token.empty()) << first;
  for (int i = 0; i < 4; ++i) {
    const std::string next = Ask(Post(kBody, "x-session-token: " + token + "\r\n"));
    EXPECT_EQ(value_of(next, "x-warmpath-endpoint"), value_of(first, "x-warmpath-endpoint"));
  }
  gateway_->Stop(0s);
  gateway_.reset();
}

TEST_F(GatewayTest, StreamsArriveAsTheyAreWritten) {
  std::mutex mutex;
  Exchange stream;
  StartEngines(1, [&](int, Exchange exchange) {
    exchange->Begin(200, {{"Content-Type", "text/event-stream"}});
    exchange->Write("data: one\n\n");
    const std::lock_guard lock(mutex);
    stream = exchange;
  });
  StartGateway();
  RawClient client(port());
  client.Send(Post(kBody, "x-request-id: s\r\n"));
  ASSERT_TRUE(client.ReadUntil("data: one\n\n"));
  EXPECT_EQ(InFlight(), 1);
  const std::lock_guard lock(mutex);
  // The next is written only after the one before was read.
  for (const char* word : {"two", "three"}) {
    engine_loop_.Run([&] { stream->Write(fmt::format("data: {}\n\n", word)); });
    ASSERT_TRUE(client.ReadUntil(fmt::format("data: {}\n\n", word)));
  }
  engine_loop_.Run([&] {
    stream->Write(
        "data: "
        "{\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"prompt_tokens_details\":{\"cached_"
        "tokens\":2}}}\n\n");
    stream->End();
  });
  ASSERT_TRUE(client.ReadUntil("0\r\n\r\n"));
  ASSERT_TRUE(Eventually([&] { return InFlight() == 0; }));
  const auto record = director_.FindRecord("s");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->status, 200);
  EXPECT_EQ(record->delivered_prompt_tokens, 3u);
  EXPECT_EQ(record->delivered_cached_tokens, 2u);
  EXPECT_TRUE(record->first_byte_ms);
}

TEST_F(GatewayTest, UsageIsReadFromWholeAnswers) {
  StartEngines(1, [](int, Exchange exchange) {
    exchange->Respond(
        200, {{"Content-Type", "application/json"}},
        R"({"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":8}}})");
  });
  StartGateway();
  Ask(Post(kBody, "x-request-id: u\r\n"));
  const auto record = director_.FindRecord("u");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->delivered_cached_tokens, 8u);
}

struct RetryRow {
  const char* what;
  int first_status;  // 0: reset before the head
  int client_status;
  int engine_requests;
};

class GatewayRetryTest : public GatewayTest, public ::testing::WithParamInterface<RetryRow> {};

TEST_P(GatewayRetryTest, OnceElsewhereAndOnlyWhereItIsSafe) {
  const RetryRow& row = GetParam();
  StartEngines(3, [&row](int n, Exchange exchange) {
    if (n > 0) {
      Ok(exchange);
    } else if (row.first_status == 0) {
      exchange->Abort();
    } else {
      exchange->Respond(row.first_status, {}, "first");
    }
  });
  StartGateway();
  const std::string answer = Ask(Post(kBody));
  EXPECT_TRUE(answer.starts_with(fmt::format("HTTP/1.1 {} ", row.client_status))) << answer;
  EXPECT_EQ(seen_, row.engine_requests);
  EXPECT_EQ(InFlight(), 0);
  const auto snapshot = fleet_.snapshot();
  const auto unhealthy = std::count_if(
      snapshot->endpoints.begin(), snapshot->endpoints.end(),
      [](const auto& endpoint) { return endpoint->health == fleet::Health::kUnhealthy; });
  EXPECT_EQ(unhealthy, row.first_status == 0 ? 1 : 0) << "an answer, even of refusal, is alive";
}

INSTANTIATE_TEST_SUITE_P(
    Rules, GatewayRetryTest,
    ::testing::Values(RetryRow{"reset", 0, 200, 2}, RetryRow{"bad_gateway", 502, 200, 2},
                      RetryRow{"unavailable", 503, 200, 2},
                      RetryRow{"gateway_timeout", 504, 200, 2},
                      RetryRow{"bad_request", 400, 400, 1}, RetryRow{"unauthorized", 401, 401, 1},
                      RetryRow{"not_found", 404, 404, 1}, RetryRow{"too_many", 429, 429, 1},
                      RetryRow{"internal", 500, 500, 1}, RetryRow{"ok", 200, 200, 1}),
    [](const auto& tested) { return tested.param.what; });

TEST_F(GatewayTest, TheSecondAnswerStandsWhateverItIs) {
  StartEngines(
      3, [](int n, Exchange exchange) { exchange->Respond(503, {}, fmt::format("busy {}", n)); });
  StartGateway();
  const std::string answer = Ask(Post(kBody));
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 503 "));
  EXPECT_EQ(BodyOf(answer), "busy 1");
  EXPECT_NE(answer.find("Retry-After: 1\r\n"), std::string::npos);
  EXPECT_EQ(seen_, 2);
  EXPECT_EQ(InFlight(), 0);
}

TEST_F(GatewayTest, WithNobodyElseTheFirstAnswerStands) {
  StartEngines(1, [](int, Exchange exchange) { exchange->Respond(503, {}, "busy"); });
  StartGateway();
  EXPECT_EQ(BodyOf(Ask(Post(kBody))), "busy");
  EXPECT_EQ(seen_, 1);
}

TEST_F(GatewayTest, AnEndpointThatRefusesConnectionsIsPassedOver) {
  StartEngines(1, [](int, Exchange exchange) { Ok(exchange); });
  const std::string live = "http://" + engines_[0]->address().ToString();
  SetEndpoints({live, "http://127.0.0.1:1"});
  const auto snapshot = fleet_.snapshot();
  Learn(snapshot->endpoints[0]->id,
        fleet::Health::kUnknown);  // so that the dead one is asked first
  StartGateway();
  EXPECT_TRUE(Ask(Post(kBody)).starts_with("HTTP/1.1 200 "));
  EXPECT_EQ(fleet_.snapshot()->endpoints[1]->health, fleet::Health::kUnhealthy);
  EXPECT_EQ(InFlight(), 0);
}

TEST_F(GatewayTest, NobodyReachableIsA503WithRetryAfter) {
  SetEndpoints({"http://127.0.0.1:1"});
  StartGateway();
  for (int i = 0; i < 2; ++i) {  // first by the connection, then by its health
    const std::string answer = Ask(Post(kBody, "x-request-id: n\r\n"));
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 503 ")) << answer;
    EXPECT_NE(answer.find("Retry-After: 1\r\n"), std::string::npos);
    EXPECT_NE(answer.find("x-request-id: n\r\n"), std::string::npos);
    EXPECT_NE(answer.find("\"error\":{\"message\":"), std::string::npos);
  }
  EXPECT_EQ(director_.FindRecord("n")->status, 503);
}

TEST_F(GatewayTest, AClientThatLeavesCancelsTheEngineAndItsBooking) {
  std::atomic<int> cancelled{0};
  StartEngines(1, [&](int n, Exchange exchange) {
    exchange->OnClose([&cancelled, exchange] { ++cancelled; });
    if (n == 1) {
      exchange->Begin(200, {{"Content-Type", "text/event-stream"}});
      exchange->Write("data: x\n\n");
    }
  });
  StartGateway();
  {
    RawClient client(port());
    client.Send(Post(kBody, "x-request-id: gone\r\n"));
    ASSERT_TRUE(Eventually([&] { return seen_ == 1; }));
    EXPECT_EQ(InFlight(), 1);
  }
  EXPECT_TRUE(Eventually([&] { return cancelled == 1 && InFlight() == 0; }));
  EXPECT_TRUE(director_.FindRecord("gone")->aborted);
  {
    RawClient client(port());
    client.Send(Post(kBody));
    ASSERT_TRUE(client.ReadUntil("data: x"));
  }
  EXPECT_TRUE(Eventually([&] { return cancelled == 2 && InFlight() == 0; }));
}

TEST_F(GatewayTest, AStreamTheEngineBreaksOffIsBrokenOffForTheClient) {
  StartEngines(2, [this](int, Exchange exchange) {
    exchange->Begin(200, {{"Content-Type", "text/event-stream"}});
    exchange->Write("data: x\n\n");
    auto timer = std::make_shared<net::Timer>();
    *timer = engine_loop_.After(5ms, [exchange, timer] { exchange->Abort(); });
  });
  StartGateway();
  RawClient client(port());
  client.Send(Post(kBody));
  EXPECT_TRUE(client.ReadToEnd());
  EXPECT_TRUE(client.reset());
  EXPECT_EQ(client.received().find("0\r\n\r\n"), std::string::npos);
  EXPECT_EQ(seen_, 1);  // no retry after a byte went out
  EXPECT_TRUE(Eventually([&] { return InFlight() == 0; }));
}

TEST_F(GatewayTest, ASlowClientHoldsTheEngineUpInsteadOfFillingMemory) {
  constexpr size_t kTotal = 64 << 20;
  std::atomic<size_t> written{0};
  std::atomic<bool> held_up{false};
  StartEngines(1, [&](int, Exchange exchange) {
    exchange->Begin(200, {{"Content-Type", "text/event-stream"}});
    auto fill = std::make_shared<std::function<void()>>();
    *fill = [&written, &held_up, raw = exchange.get()] {
      size_t queued = 0;
      while (written < kTotal && queued <= raw->high_water()) {
        queued = raw->Write(std::string(64 << 10, 'x'));
        written += 64 << 10;
      }
      if (written == kTotal) {
        raw->End();
      } else {
        held_up = true;
      }
    };
    exchange->OnDrain([fill] { (*fill)(); });
    (*fill)();
  });
  StartGateway();
  RawClient client(port(), 16 << 10);
  client.Send(Post(kBody));
  ASSERT_TRUE(client.ReadUntil("\r\n\r\n"));
  ASSERT_TRUE(Eventually([&] { return held_up.load(); }));
  const size_t body = client.received().find("\r\n\r\n") + 4;
  size_t most_ahead = 0;
  while (!client.received().ends_with("\r\n0\r\n\r\n") && client.ReadSome()) {
    const size_t read = client.received().size();
    most_ahead = std::max(most_ahead, written - std::min(read, written.load()));
  }
  // What is under way lies in socket buffers and two high-water marks.
  EXPECT_LT(most_ahead, kTotal / 2);
  EXPECT_EQ(std::count(client.received().begin() + static_cast<ptrdiff_t>(body),
                       client.received().end(), 'x'),
            static_cast<ptrdiff_t>(kTotal));
}

TEST_F(GatewayTest, ASlowTokenizationIsNotWaitedForLongerThanAllowed) {
  StartEngines(1, [](int, Exchange exchange) { Ok(exchange); });
  GatewayOptions options;
  options.decision_timeout = 20ms;
  StartGateway(options);
  std::promise<void> release;
  ASSERT_TRUE(pool_.TryRun([&] { release.get_future().wait(); }));
  const std::string body = R"({"model":"m","prompt":")" + std::string(200'000, 'x') + "\"}";
  EXPECT_TRUE(Ask(Post(body, "x-request-id: slow\r\n")).starts_with("HTTP/1.1 200 "));
  EXPECT_EQ(director_.FindRecord("slow")->tokens_note, "tokenization took too long");
  release.set_value();
}

TEST_F(GatewayTest, TokensNobodyWaitsForAreNotMade) {
  StartEngines(1, [](int, Exchange exchange) { Ok(exchange); });
  GatewayOptions options;
  options.decision_timeout = 20ms;
  StartGateway(options);
  std::promise<void> release, drained;
  ASSERT_TRUE(pool_.TryRun([&] { release.get_future().wait(); }));
  const std::string body = R"({"model":"m","prompt":")" + std::string(200'000, 'x') + "\"}";
  EXPECT_TRUE(Ask(Post(body)).starts_with("HTTP/1.1 200 "));
  ASSERT_TRUE(pool_.TryRun([&] { drained.set_value(); }));
  release.set_value();
  drained.get_future().wait();
  EXPECT_NE(metrics_.Render().find("warmpath_prepare_duration_seconds_count 0"), std::string::npos);
}

TEST_F(GatewayTest, AnswersForItselfInOpenAisShape) {
  StartEngines(2, [](int, Exchange exchange) { Ok(exchange); });
  StartGateway({.listen = {},
                .server = {.max_body_bytes = 1000},
                .client = {},
                .upstream = {},
                .engine_api_key = ""});
  struct Row {
    std::string request;
    int status;
    std::string part;
  };
  const Row rows[] = {
      {"GET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n", 200,
       R"({"object":"list","data":[{"id":"m","object":"model","created":)"},
      {"GET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n", 200, R"("id":"adapter","object":"model")"},
      {"DELETE /v1/models HTTP/1.1\r\nHost: g\r\n\r\n", 405, "Allow: GET, HEAD"},
      {"GET /v1/chat/completions HTTP/1.1\r\nHost: g\r\n\r\n", 405, "Allow: POST"},
      {"GET /health HTTP/1.1\r\nHost: g\r\n\r\n", 404, R"("code":"unknown_path")"},
      {Post(kBody, "", "/v1/load_lora_adapter"), 404, R"("type":"invalid_request_error")"},
      {Post("not json"), 400, R"("param":null)"},
      {Post(R"({"model":"other","prompt":"x"})"), 404, R"("code":"model_not_found")"},
      {Post(std::string(1001, ' ')), 413, R"("code":"request_too_large")"},
      {"POST /v1/completions HTTP/1.1\r\nHost: g\r\nx-request-id: big-1\r\nContent-Length: "
       "1001\r\n\r\nx",
       413, "x-request-id: big-1\r\n"},
      {"POST /v1/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 1\r\nContent-Length: "
       "1\r\n\r\nx",
       400, R"("code":"malformed_request")"},
  };
  for (const Row& row : rows) {
    const std::string answer = Ask(row.request);
    EXPECT_TRUE(answer.starts_with(fmt::format("HTTP/1.1 {} ", row.status)))
        << row.request << answer;
    EXPECT_NE(answer.find(row.part), std::string::npos) << row.request << answer;
    EXPECT_NE(answer.find("x-request-id: "), std::string::npos) << row.request << answer;
  }
  EXPECT_EQ(seen_, 0);
}

TEST_F(GatewayTest, EveryEnginePathIsForwarded) {
  StartEngines(1, [](int, Exchange exchange) {
    exchange->Respond(200, {}, std::string(exchange->request().path()));
  });
  StartGateway();
  for (const std::string path : {"/v1/chat/completions", "/v1/completions", "/v1/responses",
                                 "/v1/messages", "/v1/embeddings", "/tokenize", "/detokenize"}) {
    EXPECT_EQ(BodyOf(Ask(Post(R"({"model":"m","messages":[],"prompt":"x"})", "", path))), path);
  }
}

TEST_F(GatewayTest, StopLetsRequestsUnderWayFinish) {
  Exchange held;
  std::atomic<bool> begun{false};
  StartEngines(1, [&](int, Exchange exchange) {
    exchange->Begin(200, {{"Content-Type", "text/event-stream"}});
    exchange->Write("data: x\n\n");
    held = std::move(exchange);
    begun = true;
  });
  StartGateway();
  RawClient client(port());
  client.Send(Post(kBody));
  ASSERT_TRUE(client.ReadUntil("data: x"));
  ASSERT_TRUE(begun);
  const uint16_t gateway_port = port();
  std::thread stopping([&] { gateway_->Stop(10s); });
  EXPECT_TRUE(Eventually([&] { return !RawClient(gateway_port).connected(); }));
  engine_loop_.Run([&] {
    held->Write("data: y\n\n");
    held->End();
  });
  EXPECT_TRUE(client.ReadToEnd());
  stopping.join();
  EXPECT_NE(client.received().find("data: y\n\n\r\n0\r\n\r\n"), std::string::npos);
  EXPECT_EQ(InFlight(), 0);
}

TEST_F(GatewayTest, StopEndsWhatOutlivesTheDeadline) {
  std::atomic<bool> cancelled{false};
  StartEngines(1, [&](int, Exchange exchange) {
    exchange->OnClose([&cancelled, exchange] { cancelled = true; });
  });
  StartGateway();
  RawClient client(port());
  client.Send(Post(kBody));
  ASSERT_TRUE(Eventually([&] { return seen_ == 1; }));
  gateway_->Stop(20ms);
  EXPECT_TRUE(client.ReadToEnd());
  EXPECT_TRUE(Eventually([&] { return cancelled.load(); }));
  EXPECT_EQ(InFlight(), 0);
}

}  // namespace
}  // namespace warmpath::gateway
