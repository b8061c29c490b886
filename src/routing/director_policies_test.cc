// What a request's headers, subset and policies make of a decision, and what its answer leaves in
// llm-d's metrics.
#include <gtest/gtest.h>

#include <set>

#include "routing/director_testing.h"
#include "routing/matching.h"

namespace warmpath::routing {
namespace {

using namespace std::chrono_literals;

std::shared_ptr<const Policies> Share(Policies policies) {
  return std::make_shared<const Policies>(std::move(policies));
}

RequestAttributes Within(std::vector<std::string> subset) {
  return {{}, std::move(subset)};
}

class PoliciesTest : public DirectorTest {
 protected:
  void ServeModels() {
    for (const char* name : {"a", "b"}) {
      fleet_.UpdateForTest(IdOf(name), [name](fleet::Endpoint& endpoint) {
        endpoint.health = fleet::Health::kHealthy;
        endpoint.models = {{"m", "m", ""}};
        if (std::string_view(name) == "b") endpoint.models.push_back({"adapter", "adapter", "m"});
      });
    }
  }
};

TEST_F(PoliciesTest, HeadersNameObjectiveFlowAndModel) {
  director_.SetPolicies(Share({{{"batch", -5}}, {}}));
  const auto prepared = Prepare({{"x-llm-d-inference-objective", "batch"},
                                 {"x-gateway-inference-fairness-id", "tenant"},
                                 {"x-llm-d-model-name-rewrite", "other"}});
  ASSERT_TRUE(prepared);
  EXPECT_EQ(prepared->objective, "batch");
  EXPECT_EQ(prepared->priority, -5);
  EXPECT_EQ(prepared->fairness_id, "tenant");
  EXPECT_EQ(prepared->view.model, "m");
  EXPECT_EQ(prepared->target_model, "other");
  EXPECT_EQ(Prepare({})->target_model, "m");
}

TEST_F(PoliciesTest, ARewriteRuleOverridesTheHeaderAndDecidesWhereToGo) {
  ServeModels();
  director_.SetPolicies(Share({{}, {{"canary", 1, {{{"m"}, {{"adapter", 1}}}}}}}));
  StoreAt("a", Tokens(40));
  StoreAt("b", Tokens(40), 0, "adapter");
  auto prepared = Prepare({{"x-llm-d-model-name-rewrite", "other"}});
  ASSERT_TRUE(prepared);
  EXPECT_EQ(prepared->target_model, "adapter");
  auto outcome = director_.Decide(*prepared);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->endpoint().name(), "b") << "only b serves the adapter";
  EXPECT_EQ(outcome->target_model(), "adapter");
  EXPECT_EQ(outcome->predicted_cached_tokens(), 32u) << "in the adapter's key space";
  outcome->Finish(200);
  EXPECT_TRUE(Rendered(
      "llm_d_epp_model_rewrite_decisions_total{model_name=\"m\",model_rewrite_name=\"canary\","
      "target_model=\"adapter\"} 1"));
  EXPECT_TRUE(Rendered(
      "llm_d_epp_request_total{fairness_id=\"default-flow\",model_name=\"m\",priority=\"0\","
      "target_model_name=\"adapter\"} 1"));
  EXPECT_EQ(director_.FindRecord("r")->target_model, "adapter");
}

TEST_F(PoliciesTest, WithRewritesAModelIsNeededUnlessARuleIsGeneric) {
  const auto prepare = [this] {
    return director_.Prepare("r", prompt::Api::kCompletions, R"({"prompt":[1,2,3]})");
  };
  EXPECT_TRUE(prepare()) << "the engine's default";
  director_.SetPolicies(Share({{}, {{"exact", 1, {{{"m"}, {{"n", 1}}}}}}}));
  ASSERT_FALSE(prepare());
  EXPECT_EQ(prepare().error().code, Code::kInvalidArgument);
  EXPECT_EQ(prepare().error().message, "model not found in request body");
  director_.SetPolicies(Share({{}, {{"generic", 1, {{{}, {{"n", 1}}}}}}}));
  ASSERT_TRUE(prepare());
  EXPECT_EQ(prepare()->target_model, "n");
}

TEST_F(PoliciesTest, ASubsetConfinesTheDecision) {
  const auto pick = [this](std::vector<std::string> subset) -> Result<std::string> {
    WP_TRY(Prepared prepared, director_.Prepare("r", prompt::Api::kCompletions, Body(Tokens(40)),
                                                Within(std::move(subset))));
    WP_TRY(const Outcome outcome, director_.Decide(prepared));
    return outcome.endpoint().name();
  };
  StoreAt("a", Tokens(40));
  EXPECT_EQ(*pick({"127.0.0.1:8002"}), "b");
  EXPECT_EQ(*pick({"10.0.0.1", "127.0.0.1"}), "a");
  EXPECT_EQ(pick({}).error().code, Code::kUnavailable);
  EXPECT_EQ(pick({"127.0.0.1:9"}).error().code, Code::kUnavailable);
}

TEST_F(PoliciesTest, ABodilessRequestGoesToTheLeastLoadedEndpointOfItsSubset) {
  const Outcome busy = Route(Body(Tokens(40)), "busy");
  Prepared get = director_.PrepareBodiless("get", {});
  const auto outcome = director_.Decide(get);
  ASSERT_TRUE(outcome);
  EXPECT_NE(outcome->endpoint().name(), busy.endpoint().name());
  EXPECT_EQ(outcome->destinations().size(), 1u);
  EXPECT_EQ(director_.lookup_stats().lookups, 1u) << "only the request with a prompt";
  Prepared confined = director_.PrepareBodiless("get", Within({busy.endpoint().address()}));
  EXPECT_EQ(director_.Decide(confined)->endpoint().name(), busy.endpoint().name());
  Prepared nowhere = director_.PrepareBodiless("get", Within({}));
  EXPECT_EQ(director_.Decide(nowhere).error().code, Code::kUnavailable);
}

TEST_F(PoliciesTest, AmongEquallyBusyOnesTheScrapedLoadDecides) {
  fleet_.UpdateForTest(IdOf("a"), [](fleet::Endpoint& endpoint) { endpoint.load.waiting = 1; });
  for (int i = 0; i < 8; ++i) {
    Prepared get = director_.PrepareBodiless("get", {});
    EXPECT_EQ(director_.Decide(get)->endpoint().name(), "b");
  }
}

TEST_F(PoliciesTest, TheRequestThatPluginsSeeIsComplete) {
  events::PublisherStatus publisher;
  publisher.connected = true;
  publisher.endpoint = IdOf("a");
  events_.publishers.push_back(publisher);
  publisher.silent = true;
  publisher.endpoint = IdOf("b");
  events_.publishers.push_back(publisher);
  const auto prepared = Prepare({{"x-session-token", "t"}}, R"(,"max_tokens":7,"cache_salt":"s")");
  ASSERT_TRUE(prepared);
  const auto snapshot = fleet_.snapshot();
  const ViewSources sources{index_, &events_, fleet_.inflight()};
  const View view(snapshot, std::make_shared<const FlowingEvents>(events_.flowing()), sources,
                  clock_.Now());
  const auto pool = view.PoolOf("m", false, {}, std::nullopt);
  ASSERT_TRUE(pool);
  MatchedRequest matched;
  Match(*prepared, view, **pool, sources, true, matched);
  const scheduling::Request& request = matched.request;
  EXPECT_EQ(request.target_model, "m");
  ASSERT_EQ(request.prompts.size(), 1u);
  EXPECT_EQ(request.prompts[0].size(), 40u);
  EXPECT_FALSE(request.tokens_estimated);
  EXPECT_EQ(request.max_output_tokens, 7u);
  EXPECT_EQ(request.cache_salt, "s");
  EXPECT_EQ(request.headers->Get("X-Session-Token"), "t");
  EXPECT_EQ(request.fairness_id, "default-flow");
  EXPECT_TRUE(request.candidates[0].exact);
  EXPECT_FALSE(request.candidates[1].exact) << "its events do not arrive";
}

TEST_F(PoliciesTest, GeneratedRequestsHaveExactTokens) {
  const auto prepared =
      director_.Prepare("r", prompt::Api::kGenerate, R"({"model":"m","token_ids":[1,2,3]})");
  ASSERT_TRUE(prepared);
  EXPECT_TRUE(prepared->tokens_known) << prepared->tokens_note;
  EXPECT_EQ(prepared->prompt_tokens, 3u);
}

TEST_F(PoliciesTest, AnAnswerLeavesLlmdsMetrics) {
  auto prepared = Prepare({{"x-llm-d-inference-fairness-id", "tenant"}});
  ASSERT_TRUE(prepared);
  auto outcome = director_.Decide(*prepared);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->scores().size(), 2u);
  const std::string labels =
      "fairness_id=\"tenant\",model_name=\"m\",priority=\"0\",target_model_name=\"m\"";
  EXPECT_TRUE(Rendered("llm_d_epp_request_running{" + labels + "} 1"));
  clock_.Advance(100ms);
  outcome->ResponseHead(200, true);
  outcome->BodyChunk(10);
  clock_.Advance(30ms);
  outcome->BodyChunk(20);
  clock_.Advance(10ms);
  outcome->Usage(40, 16, 5);
  outcome->Finish(200);
  for (const char* line :
       {"request_total{@} 1", "request_running{@} 0", "request_duration_seconds_sum{@} 0.14",
        "request_size_bytes_count{@} 1", "response_size_bytes_sum{@} 30",
        "request_input_tokens_sum{@} 40", "request_cached_tokens_sum{@} 16",
        "request_output_tokens_sum{@} 5", "request_ntpot_seconds_sum{@} 0.028",
        "request_streaming_tpot_seconds_sum{@} 0.01", "request_streaming_itl_seconds_sum{@} 0.03",
        "request_processing_duration_seconds_count 1",
        "response_processing_duration_seconds_count 1", "scheduler_e2e_duration_seconds_count 1"}) {
    std::string expected = std::string("llm_d_epp_") + line;
    if (const size_t at = expected.find('@'); at != std::string::npos)
      expected.replace(at, 1, labels);
    EXPECT_TRUE(Rendered(expected)) << expected;
  }
  const std::string page = metrics_.Render();
  EXPECT_NE(page.find("llm_d_epp_request_ttft_seconds_sum{fairness_id=\"tenant\",model_name=\"m\","
                      "priority=\"0\",streaming=\"true\",target_model_name=\"m\"} 0.1"),
            std::string::npos);
  EXPECT_NE(page.find("llm_d_epp_scheduler_attempts_total{endpoint_name=\"" +
                      outcome->endpoint().name() + "\",namespace=\"default\",port=\"800"),
            std::string::npos);
  EXPECT_EQ(director_.FindRecord("r")->delivered_output_tokens, 5u);
}

TEST_F(PoliciesTest, AnUnknownModelHasNoSeriesOfItsOwn) {
  ServeModels();
  auto prepared =
      director_.Prepare("r", prompt::Api::kCompletions, R"({"model":"made-up","prompt":[1,2,3]})");
  ASSERT_TRUE(prepared);
  EXPECT_EQ(director_.Decide(*prepared).error().code, Code::kNotFound);
  const std::string page = metrics_.Render();
  EXPECT_EQ(page.find("made-up"), std::string::npos);
  EXPECT_NE(page.find("error_code=\"404\""), std::string::npos);
}

class AnyModelTest : public DirectorTest {
 protected:
  AnyModelTest() : DirectorTest("", {.any_model = true}) {}
};

TEST_F(AnyModelTest, ServesModelsThatNoEndpointLists) {
  fleet_.UpdateForTest(IdOf("a"), [](fleet::Endpoint& endpoint) {
    endpoint.health = fleet::Health::kHealthy;
    endpoint.models = {{"other", "other", ""}};
  });
  fleet_.UpdateForTest(
      IdOf("b"), [](fleet::Endpoint& endpoint) { endpoint.models = {{"other", "other", ""}}; });
  EXPECT_EQ(Route(Body(Tokens(40))).endpoint().name(), "a");
}

class FallbackTest : public DirectorTest {
 protected:
  static scheduling::SchedulerSpec Spec() {
    return {.plugins = {{"prefix-cache-scorer", "", "{}"},
                        {"max-score-picker", "", R"({"maxNumOfEndpoints":2})"}},
            .profiles = {},
            .saturation_detector = ""};
  }
  FallbackTest() : DirectorTest("", {}, Spec()) {}
};

TEST_F(FallbackTest, NamesFallbacksAndFollowsTheOneThatServed) {
  StoreAt("a", Tokens(160));
  StoreAt("b", Tokens(160));
  Outcome outcome = Route(Body(Tokens(200)));
  ASSERT_EQ(outcome.destinations().size(), 2u);
  EXPECT_EQ(outcome.destinations()[0], outcome.endpoint().address());
  const fleet::EndpointId first = outcome.endpoint().id;
  outcome.Served(outcome.destinations()[0]);
  EXPECT_EQ(outcome.endpoint().id, first);
  outcome.Served("10.9.9.9:1");
  EXPECT_EQ(outcome.endpoint().id, first) << "no endpoint of ours";
  outcome.Served(outcome.destinations()[1]);
  EXPECT_NE(outcome.endpoint().id, first);
  EXPECT_EQ(outcome.endpoint().address(), outcome.destinations()[1]);
  EXPECT_EQ(outcome.predicted_cached_tokens(), 160u);
  EXPECT_EQ(fleet_.inflight().Load(first).requests, 0);
  EXPECT_EQ(fleet_.inflight().Load(outcome.endpoint().id).requests, 1);
  EXPECT_EQ(director_.FindRecord("r")->chosen, outcome.endpoint().name());
  outcome.Finish(200);
  EXPECT_EQ(fleet_.inflight().Load(outcome.endpoint().id).requests, 0);
}

class SheddingTest : public DirectorTest {
 protected:
  static scheduling::SchedulerSpec Spec() {
    return {.plugins = {{"queue-scorer", "", "{}"},
                        {"concurrency-detector", "", R"({"maxConcurrency":1})"}},
            .profiles = {},
            .saturation_detector = "concurrency-detector"};
  }
  SheddingTest() : DirectorTest("", {}, Spec()) {}
};

TEST_F(SheddingTest, OnlySheddableRequestsAreRefusedWhenTheCandidatesAreSaturated) {
  director_.SetPolicies(Share({{{"batch", -1}}, {}}));
  std::vector<Outcome> open;
  const auto ask = [this](net::Headers headers) {
    auto prepared = Prepare(std::move(headers));
    return director_.Decide(*prepared);
  };
  const net::Headers batch{{"x-llm-d-inference-objective", "batch"}};
  for (int i = 0; i < 2; ++i) {
    auto outcome = ask(batch);
    ASSERT_TRUE(outcome) << "not saturated yet";
    open.push_back(std::move(*outcome));
  }
  auto refused = ask(batch);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kOutOfBounds);
  EXPECT_EQ(refused.error().message, "system saturated, sheddable request dropped");
  EXPECT_TRUE(ask({})) << "priority 0 is never shed";
}

class NoSpeculationTest : public DirectorTest {
 protected:
  NoSpeculationTest() : DirectorTest("", {.speculative_blocks = false}) {}
};

TEST_F(NoSpeculationTest, APromptUnderWayIsExpectedNowhere) {
  const Outcome under_way = Route(Body(Tokens(160)));
  const auto record = director_.Explain(prompt::Api::kCompletions, Body(Tokens(160)));
  ASSERT_TRUE(record);
  ASSERT_FALSE(record->endpoints.empty());
  for (const EndpointVerdict& verdict : record->endpoints)
    EXPECT_EQ(verdict.expected_cached_tokens, 0u) << verdict.name;
}

class OutputLoadTest : public DirectorTest {
 protected:
  OutputLoadTest() : DirectorTest("", {.add_estimated_output_tokens = true}) {}
};

TEST_F(OutputLoadTest, CountsTheOutputToComeAsLoad) {
  const auto tokens = [this](const std::string& more) {
    auto prepared = Prepare({}, more);
    const auto outcome = director_.Decide(*prepared);
    return fleet_.inflight().Load(outcome->endpoint().id).tokens;
  };
  clock_.Advance(1s);
  EXPECT_EQ(tokens(""), 40 + 60);
  director_.Tick();
  clock_.Advance(1s);
  director_.Tick();
  EXPECT_EQ(tokens(R"(,"max_tokens":5)"), 40 + 5);
}

}  // namespace
}  // namespace warmpath::routing
