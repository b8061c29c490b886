#include "admin/admin_server.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <atomic>

#include "codec/json.h"
#include "kv/keys.h"
#include "net/http_client.h"
#include "prompt/encoder.h"

namespace warmpath::admin {
namespace {

using codec::Json;

constexpr uint32_t kBlock = 16;

class FakeEvents final : public events::EventsManager {
 public:
  void SetEndpoints(const fleet::Snapshot&) override {}
  void NoteTraffic(fleet::EndpointId, uint64_t) override {}
  std::vector<events::PublisherStatus> status() const override { return statuses; }
  std::vector<fleet::EndpointId> flowing() const override { return {}; }
  uint32_t block_size(fleet::EndpointId) const override { return kBlock; }
  uint16_t bound_port() const override { return 0; }
  void Start() override {}
  void Unbind() override {}
  void Stop() override {}

  std::vector<events::PublisherStatus> statuses;
};

// Loaded once: it takes seconds.
std::shared_ptr<const prompt::Encoder> QwenEncoder() {
  static const auto encoder = [] {
    auto tokenizer = prompt::Tokenizer::Load(WARMPATH_TOKENIZERS "/qwen3");
    EXPECT_TRUE(tokenizer) << tokenizer.error().message;
    return std::make_shared<const prompt::Encoder>(*tokenizer, prompt::EncoderOptions{});
  }();
  return encoder;
}

// A real Director over two engines "a" and "b" that nobody asks; prompts are token ids.
class AdminServerTest : public testing::Test {
 protected:
  AdminServerTest()
      : scheduler_(*scheduling::Scheduler::Create(scheduling::DefaultSchedulerSpec())),
        fleet_(fleet_loop_, {}, metrics_, clock_),
        director_({fleet_, index_, &events_, *scheduler_, metrics_, clock_}, {}) {
    fleet_.SetEndpoints(
        *fleet::ParseEndpoints({"http://127.0.0.1:8001,name=a,events=tcp://127.0.0.1:5001",
                                "http://127.0.0.1:8002,name=b,events=tcp://127.0.0.1:5002"},
                               false));
    director_.SetEncoder("", QwenEncoder());
    const auto fleet = fleet_.snapshot();
    for (const auto& endpoint : fleet->endpoints) {
      fleet_.UpdateForTest(
          endpoint->id, [](fleet::Endpoint& change) { change.health = fleet::Health::kHealthy; });
      events::PublisherStatus status;
      status.endpoint = endpoint->id;
      status.connected = true;
      status.block_size = kBlock;
      events_.statuses.push_back(status);
    }
    AdminOptions options;
    options.listen = {"127.0.0.1", 0};
    options.max_body_bytes = 1 << 20;
    options.authorize = [this](std::string token, std::string verb, std::string path,
                               std::function<void(AdminAccess)> answer) {
      answer(authorize_ ? authorize_(token, verb, path) : AdminAccess::kAllowed);
    };
    auto server =
        AdminServer::Create(loop_, options, {metrics_, fleet_, &events_, index_, director_, [this] {
                                               return Readiness{ready_, ready_ ? "" : "no engine"};
                                             }});
    EXPECT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    loop_.Start();
  }
  ~AdminServerTest() override {
    server_->Stop();
    server_.reset();
    loop_.Stop();
  }

  net::HttpResponse Ask(const std::string& method, const std::string& target,
                        std::string body = "") {
    net::HttpRequest request;
    request.method = method;
    request.target = target;
    request.body = std::move(body);
    if (!token_.empty()) request.headers.Add("Authorization", "Bearer " + token_);
    const net::Url url = *net::ParseUrl(fmt::format("http://127.0.0.1:{}", server_->port()));
    auto answer = net::FetchBlocking(url, std::move(request), std::chrono::seconds(20), 64 << 20);
    EXPECT_TRUE(answer) << target << ": " << answer.error().message;
    return answer ? *answer : net::HttpResponse{};
  }
  Json Get(const std::string& target, int status = 200) {
    return Parse(Ask("GET", target), status);
  }
  Json Post(const std::string& target, std::string body, int status = 200) {
    return Parse(Ask("POST", target, std::move(body)), status);
  }
  static Json Parse(const net::HttpResponse& answer, int status) {
    EXPECT_EQ(answer.status, status) << answer.body;
    EXPECT_EQ(answer.headers.Get("content-type"), "application/json");
    auto json = codec::ParseJson(answer.body);
    EXPECT_TRUE(json) << answer.body;
    return json ? *json : Json();
  }
  static std::string ErrorOf(const Json& answer) {
    const Json* error = codec::Find(answer, "error");
    EXPECT_NE(error, nullptr) << codec::DumpJson(answer);
    if (error == nullptr) return "";
    for (const char* key : {"message", "type", "param", "code"}) {
      EXPECT_NE(codec::Find(*error, key), nullptr) << key;
    }
    return std::string(codec::FindString(*error, "message").value_or(""));
  }

  static std::vector<kv::TokenId> Tokens(size_t count) {
    std::vector<kv::TokenId> ids(count);
    for (size_t i = 0; i < count; ++i) ids[i] = static_cast<kv::TokenId>(100 + i % 1000);
    return ids;
  }
  static std::string Body(size_t tokens) {
    return fmt::format(R"({{"model":"m","prompt":[{}]}})", fmt::join(Tokens(tokens), ","));
  }
  void StoreAtB(size_t tokens) {
    const kv::BlockKey root = kv::RootKey(kBlock, "", "");
    std::vector<index::BlockAlias> blocks;
    for (const kv::BlockKey key : kv::PrefixKeys(root, Tokens(tokens), kBlock))
      blocks.push_back({key, key});
    index_.Store({fleet_.snapshot()->endpoints[1]->id, 0}, index::Tier::kGpu, 0, root, blocks);
  }
  void Route(const std::string& id, size_t tokens) {
    auto prepared = director_.Prepare(id, prompt::Api::kCompletions, Body(tokens));
    ASSERT_TRUE(prepared) << prepared.error().message;
    auto outcome = director_.Decide(*prepared);
    ASSERT_TRUE(outcome) << outcome.error().message;
    outcome->FirstToken();
    outcome->Usage(tokens, 144);
    outcome->Finish(200);
  }

  ManualClock clock_;
  Registry metrics_;
  net::Loop fleet_loop_{"fleet"};
  net::Loop loop_{"admin"};
  index::KvIndex index_{64 << 20};
  FakeEvents events_;
  std::atomic<bool> ready_{true};
  std::string token_;  // of requests; "" = none
  // Set before the first request.
  std::function<AdminAccess(std::string token, std::string verb, std::string path)> authorize_;
  std::unique_ptr<scheduling::Scheduler> scheduler_;
  fleet::Fleet fleet_;
  routing::Director director_;
  std::unique_ptr<AdminServer> server_;
};

TEST_F(AdminServerTest, AnswersProbesAndMetrics) {
  EXPECT_EQ(Ask("GET", "/healthz").status, 200);
  EXPECT_EQ(Ask("GET", "/readyz").status, 200);
  ready_ = false;
  const net::HttpResponse not_ready = Ask("GET", "/readyz");
  EXPECT_EQ(not_ready.status, 503);
  EXPECT_EQ(not_ready.body, "not ready: no engine\n");
  EXPECT_EQ(Ask("GET", "/healthz").status, 200);
  const net::HttpResponse metrics = Ask("GET", "/metrics");
  EXPECT_EQ(metrics.headers.Get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_NE(metrics.body.find("llm_d_epp_ready_endpoints{name=\"default\"} 2"), std::string::npos);
  const net::HttpResponse head = Ask("HEAD", "/metrics");
  EXPECT_EQ(head.status, 200);
  EXPECT_TRUE(head.body.empty());
}

TEST_F(AdminServerTest, EverythingButProbesNeedsTheTokenWhereOneIsAskedFor) {
  authorize_ = [](const std::string& token, const std::string&, const std::string&) {
    return token == "good" ? AdminAccess::kAllowed : AdminAccess::kUnauthenticated;
  };
  EXPECT_EQ(Ask("GET", "/healthz").status, 200);
  EXPECT_EQ(Ask("GET", "/readyz").status, 200);
  for (const char* path : {"/", "/metrics", "/api/v1/endpoints", "/app.js", "/nope", "/healthz/",
                           "/readyz/../metrics"})
    EXPECT_FALSE(ErrorOf(Get(path, 401)).empty()) << path;
  EXPECT_EQ(Ask("POST", "/api/v1/explain", Body(20'000)).status, 401);
  token_ = "good";
  EXPECT_EQ(Ask("GET", "/metrics").status, 200);
  EXPECT_EQ(Ask("POST", "/api/v1/explain?path=/v1/completions", Body(20'000)).status, 200);
}

TEST_F(AdminServerTest, ListsEndpointsAsCapabilityCards) {
  StoreAtB(160);
  const Json answer = Get("/api/v1/endpoints");
  const codec::JsonArray& cards = codec::Find(answer, "endpoints")->as_array();
  ASSERT_EQ(cards.size(), 2u);
  EXPECT_EQ(codec::FindString(cards[0], "name"), "a");
  EXPECT_EQ(codec::FindString(cards[1], "url"), "http://127.0.0.1:8002");
  EXPECT_EQ(codec::FindString(cards[1], "state"), "healthy");
  EXPECT_EQ(codec::FindInt(cards[0], "blocks"), 0);
  EXPECT_EQ(codec::FindInt(cards[1], "blocks"), 10);
  EXPECT_EQ(codec::FindInt(cards[1], "block_size"), kBlock);
  const Json& events = *codec::Find(cards[1], "events");
  for (const char* key : {"connected", "last_seq", "received", "gaps", "errors"}) {
    EXPECT_NE(codec::Find(events, key), nullptr) << key;
  }
}

TEST_F(AdminServerTest, ReportsTheIndexAndTheWhole) {
  StoreAtB(160);
  index_.ClearEndpoint(fleet_.snapshot()->endpoints[1]->id);
  StoreAtB(32);
  const Json index = Get("/api/v1/index");
  EXPECT_EQ(codec::FindInt(index, "blocks"), 2);
  EXPECT_GT(codec::FindInt(index, "bytes"), 0);
  EXPECT_EQ(codec::FindInt(index, "budget_bytes"), 64 << 20);
  EXPECT_EQ(codec::DumpJson(*codec::Find(index, "evictions")),
            R"({"removed":0,"cleared":10,"budget":0})");
  Route("r", 200);
  const Json status = Get("/api/v1/status");
  EXPECT_EQ(codec::FindBool(status, "ready"), true);
  EXPECT_EQ(codec::FindInt(status, "healthy_endpoints"), 2);
  EXPECT_EQ(codec::FindInt(status, "lookups"), 1);
  EXPECT_EQ(codec::FindInt(*codec::Find(status, "prediction"), "delivered_tokens"), 144);
  EXPECT_EQ(codec::FindBool(*codec::Find(status, "tokenizer"), "loaded"), true);
}

TEST_F(AdminServerTest, ExplainsWithoutLeavingATrace) {
  StoreAtB(160);
  const Json answer = Post("/api/v1/explain?path=/v1/completions", Body(200));
  EXPECT_EQ(codec::FindString(answer, "model"), "m");
  EXPECT_EQ(codec::FindInt(answer, "prompt_tokens"), 200);
  EXPECT_EQ(codec::FindString(answer, "chosen"), "b");
  EXPECT_EQ(codec::FindString(answer, "why"), "warmest: 160 of 200 tokens");
  EXPECT_FALSE(codec::Find(answer, "weights")->as_object().empty());
  const codec::JsonArray& endpoints = codec::Find(answer, "endpoints")->as_array();
  ASSERT_EQ(endpoints.size(), 2u);
  EXPECT_EQ(codec::FindString(endpoints[1], "name"), "b");
  EXPECT_EQ(codec::FindInt(endpoints[1], "matched_blocks"), 10);
  EXPECT_EQ(codec::FindInt(endpoints[1], "cached_tokens"), 160);
  EXPECT_TRUE(codec::Find(endpoints[1], "filtered_by")->is_null());
  EXPECT_TRUE(codec::Find(endpoints[1], "scores")->is_object());
  EXPECT_TRUE(codec::FindDouble(endpoints[1], "total"));
  EXPECT_EQ(director_.lookup_stats().lookups, 0u);
  EXPECT_TRUE(codec::Find(Get("/api/v1/requests"), "requests")->as_array().empty());
}

TEST_F(AdminServerTest, ExplainsBodiesTooBigForItsLoop) {
  StoreAtB(160);
  const Json answer = Post("/api/v1/explain?path=/v1/completions", Body(20'000));
  EXPECT_EQ(codec::FindInt(answer, "prompt_tokens"), 20'000);
  EXPECT_EQ(Ask("POST", "/api/v1/explain", std::string((1 << 20) + 1, ' ')).status, 413);
}

TEST_F(AdminServerTest, RefusesBadExplanationsInOpenAiShape) {
  EXPECT_FALSE(ErrorOf(Post("/api/v1/explain", "{", 400)).empty());
  EXPECT_NE(ErrorOf(Post("/api/v1/explain?path=/nope", "{}", 400)).find("/nope"),
            std::string::npos);
  const auto fleet = fleet_.snapshot();
  for (const auto& endpoint : fleet->endpoints) {
    fleet_.UpdateForTest(endpoint->id,
                         [](fleet::Endpoint& change) { change.models = {{"other", "other", ""}}; });
  }
  EXPECT_FALSE(ErrorOf(Post("/api/v1/explain?path=/v1/completions", Body(20), 404)).empty());
}

TEST_F(AdminServerTest, FindsServedRequestsById) {
  StoreAtB(160);
  Route("id/with space&more=1+2", 200);
  const Json answer = Get("/api/v1/requests/id%2Fwith%20space%26more=1+2");
  EXPECT_EQ(codec::FindString(answer, "request_id"), "id/with space&more=1+2");
  EXPECT_EQ(codec::FindString(answer, "chosen"), "b");
  EXPECT_EQ(codec::FindInt(answer, "delivered_cached_tokens"), 144);
  EXPECT_EQ(codec::FindInt(answer, "status"), 200);
  EXPECT_FALSE(ErrorOf(Get("/api/v1/requests/unknown", 404)).empty());
  const Json list = Get("/api/v1/requests?count=5");
  const codec::JsonArray& requests = codec::Find(list, "requests")->as_array();
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(codec::FindInt(requests[0], "predicted_cached_tokens"), 160);
  EXPECT_EQ(codec::FindString(requests[0], "why"), "warmest: 160 of 200 tokens");
  EXPECT_FALSE(ErrorOf(Get("/api/v1/requests?count=0", 400)).empty());
}

TEST_F(AdminServerTest, ShowsTokensAndKeys) {
  const std::string target = "/api/v1/tokenize?path=/v1/completions";
  const Json one = Post(target, R"({"model":"m","prompt":"Hello world, said the long prompt"})");
  ASSERT_TRUE(one.is_object());
  EXPECT_EQ(codec::FindString(one, "text"), "Hello world, said the long prompt");
  EXPECT_FALSE(codec::Find(one, "token_ids")->as_array().empty());
  const Json ids = Post(target, Body(35));
  EXPECT_EQ(codec::Find(ids, "token_ids")->as_array().size(), 35u);
  const codec::JsonArray& keys = codec::Find(ids, "keys")->as_array();
  ASSERT_EQ(keys.size(), 2u);
  EXPECT_EQ(keys[0].as_string().size(), 16u);
  EXPECT_EQ(Post(target, R"({"prompt":["a","b"]})").as_array().size(), 2u);
  EXPECT_EQ(Post(target, R"({"prompt":["a"]})").as_array().size(), 1u);
  EXPECT_FALSE(ErrorOf(Post("/api/v1/tokenize?path=/v1/embeddings", "{}", 400)).empty());
}

TEST_F(AdminServerTest, ServesTheDashboardUnderAStrictPolicy) {
  const net::HttpResponse page = Ask("GET", "/");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.headers.Get("content-type"), "text/html; charset=utf-8");
  const std::string policy(page.headers.Get("content-security-policy").value_or(""));
  EXPECT_NE(policy.find("default-src 'none'"), std::string::npos);
  EXPECT_NE(policy.find("frame-ancestors 'none'"), std::string::npos);
  EXPECT_EQ(policy.find("unsafe"), std::string::npos);
  EXPECT_EQ(page.headers.Get("x-content-type-options"), "nosniff");
  EXPECT_NE(page.body.find("<title>warmpath</title>"), std::string::npos);
  for (const auto& [path, type] :
       {std::pair<std::string, std::string>{"/app.js", "text/javascript; charset=utf-8"},
        {"/view.js", "text/javascript; charset=utf-8"},
        {"/style.css", "text/css; charset=utf-8"},
        {"/icon.svg", "image/svg+xml; charset=utf-8"}}) {
    const net::HttpResponse file = Ask("GET", path);
    EXPECT_EQ(file.status, 200) << path;
    EXPECT_EQ(file.headers.Get("content-type"), type);
    EXPECT_FALSE(file.body.empty());
  }
}

TEST_F(AdminServerTest, AnswersUnknownPathsAndMethods) {
  EXPECT_NE(ErrorOf(Get("/nope", 404)).find("/nope"), std::string::npos);
  EXPECT_FALSE(ErrorOf(Get("/../secret", 404)).empty());
  const net::HttpResponse wrong = Ask("POST", "/metrics", "{}");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.Get("allow"), "GET, HEAD");
  const net::HttpResponse get = Ask("GET", "/api/v1/explain");
  EXPECT_EQ(get.status, 405);
  EXPECT_EQ(get.headers.Get("allow"), "POST");
  EXPECT_EQ(Ask("DELETE", "/api/v1/endpoints").status, 405);
}

}  // namespace
}  // namespace warmpath::admin
