#include "routing/director.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/log.h"
#include "routing/director_testing.h"
#include "routing/matching.h"

namespace warmpath::routing {
namespace {

using namespace std::chrono_literals;

TEST_F(DirectorTest, RoutesToTheEngineThatHoldsThePrefix) {
  StoreAt("b", Tokens(160));
  Outcome outcome = Route(Body(Tokens(200)));
  EXPECT_EQ(outcome.endpoint().name(), "b");
  EXPECT_EQ(outcome.predicted_cached_tokens(), 160u);
  outcome.Finish(200);
}

TEST_F(DirectorTest, NeverCountsTheLastPromptTokenAsReusable) {
  StoreAt("a", Tokens(160));
  EXPECT_EQ(Route(Body(Tokens(160))).predicted_cached_tokens(), 144u);
  EXPECT_EQ(Route(Body(Tokens(161))).predicted_cached_tokens(), 160u);
  EXPECT_EQ(UsableBlocks(10, 1, 16), 0u);
  EXPECT_EQ(UsableBlocks(10, 0, 16), 0u);
}

TEST_F(DirectorTest, SpreadsABurstBeforeAnyScrapeOrEvent) {
  std::map<std::string, int> hits;
  std::vector<Outcome> open;
  for (kv::TokenId i = 0; i < 8; ++i) {
    open.push_back(Route(Body(Tokens(640, 1000 * i + 1)), fmt::format("r{}", i)));
    ++hits[open.back().endpoint().name()];
  }
  EXPECT_EQ(hits["a"], 4);
  EXPECT_EQ(hits["b"], 4);
}

TEST_F(DirectorTest, ExpectsWhatARequestUnderWayWillStoreUntilItsGraceEnds) {
  Outcome first = Route(Body(Tokens(320)), "1");
  const std::string where = first.endpoint().name();
  Outcome second = Route(Body(Tokens(320)), "2");
  EXPECT_EQ(second.endpoint().name(), where);
  EXPECT_EQ(second.predicted_cached_tokens(), 304u);
  first.Finish(200);
  second.Finish(200);
  director_.Tick();
  EXPECT_EQ(Route(Body(Tokens(320)), "3").predicted_cached_tokens(), 304u);
  clock_.Advance(501ms);
  director_.Tick();
  EXPECT_EQ(Route(Body(Tokens(320)), "4").predicted_cached_tokens(), 0u);
}

TEST_F(DirectorTest, AFailedAttemptReleasesAtOnceAndTheRetryGoesElsewhere) {
  StoreAt("a", Tokens(320));
  auto prepared = director_.Prepare("r", prompt::Api::kCompletions, Body(Tokens(400)));
  ASSERT_TRUE(prepared);
  auto first = director_.Decide(*prepared);
  ASSERT_TRUE(first);
  ASSERT_EQ(first->endpoint().name(), "a");
  first->Failed("connection refused");
  EXPECT_EQ(fleet_.inflight().Load(IdOf("a")).requests, 0);
  auto second = director_.Decide(*prepared, {IdOf("a")});
  ASSERT_TRUE(second);
  EXPECT_EQ(second->endpoint().name(), "b");
  EXPECT_EQ(director_.lookup_stats().lookups, 1u) << "a retry is not another lookup";
  second->Finish(200);
  EXPECT_EQ(director_.FindRecord("r")->attempts, 2);
  EXPECT_EQ(director_.Decide(*prepared, {IdOf("a"), IdOf("b")}).error().code, Code::kUnavailable);
}

TEST_F(DirectorTest, ARequestWithoutAnAnswerIsOneErrorAndItsRecordSaysWhich) {
  auto prepared = director_.Prepare("r", prompt::Api::kCompletions, Body(Tokens(40)));
  ASSERT_TRUE(prepared);
  auto first = director_.Decide(*prepared);
  ASSERT_TRUE(first);
  clock_.Advance(20ms);
  EXPECT_FALSE(director_.Decide(*prepared, {IdOf("a"), IdOf("b")}));
  first->Failed("connection reset", 502);
  const auto record = director_.FindRecord("r");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->status, 502);
  EXPECT_FALSE(record->aborted);
  EXPECT_DOUBLE_EQ(*record->total_ms, 20);
  const std::string metrics = metrics_.Render();
  EXPECT_NE(metrics.find("error_code=\"502\""), std::string::npos);
  EXPECT_EQ(metrics.find("error_code=\"503\""), std::string::npos)
      << "the retry that found nobody is not an error of its own";
}

TEST_F(DirectorTest, NeverMatchesASaltedPromptAgainstAnotherSalt) {
  StoreAt("a", Tokens(160), 0, "", "tenant-a");
  EXPECT_EQ(Route(Body(Tokens(200))).predicted_cached_tokens(), 0u);
  EXPECT_EQ(Route(Body(Tokens(200), R"(,"cache_salt":"tenant-b")")).predicted_cached_tokens(), 0u);
  EXPECT_EQ(Route(Body(Tokens(200), R"(,"cache_salt":"tenant-a")")).predicted_cached_tokens(),
            160u);
}

TEST_F(DirectorTest, ExplainSaysWhatItWouldDoAndLeavesNoTrace) {
  StoreAt("b", Tokens(160));
  const auto record = director_.Explain(prompt::Api::kCompletions, Body(Tokens(200)));
  ASSERT_TRUE(record) << record.error().message;
  EXPECT_EQ(record->chosen, "b");
  ASSERT_EQ(record->endpoints.size(), 2u);
  EXPECT_EQ(record->endpoints[1].matched_blocks, 10u);
  EXPECT_EQ(record->endpoints[1].cached_tokens, 160u);
  ASSERT_EQ(record->scores.size(), record->weights->size());
  EXPECT_EQ(record->scores[0].scores.size(), 2u);
  EXPECT_EQ(director_.lookup_stats().lookups, 0u);
  EXPECT_EQ(fleet_.inflight().Load(IdOf("b")).requests, 0);
  EXPECT_TRUE(director_.NewestRecords(10).empty());
}

TEST_F(DirectorTest, LearnsFromTheResponseWhetherThePredictionHeld) {
  StoreAt("b", Tokens(160));
  Outcome outcome = Route(Body(Tokens(200)), "id-1");
  clock_.Advance(20ms);
  outcome.FirstToken();
  outcome.Usage(200, 144);
  clock_.Advance(30ms);
  outcome.Finish(200);
  const PredictionStats stats = director_.Predictions(IdOf("b"));
  EXPECT_EQ(stats.requests, 1u);
  EXPECT_EQ(stats.exact, 0u);
  EXPECT_EQ(stats.parity_equal, 1u);
  const auto record = director_.FindRecord("id-1");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->delivered_cached_tokens, 144u);
  EXPECT_EQ(record->status, 200);
  EXPECT_DOUBLE_EQ(*record->first_byte_ms, 20);
  EXPECT_DOUBLE_EQ(*record->total_ms, 50);
  EXPECT_NE(metrics_.Render().find("warmpath_predictions_total{result=\"over\"} 1"),
            std::string::npos);
}

TEST_F(DirectorTest, ADestroyedOutcomeCountsAsAnAbort) {
  {
    const Outcome outcome = Route(Body(Tokens(64)), "gone");
  }
  EXPECT_TRUE(director_.FindRecord("gone")->aborted);
  EXPECT_EQ(fleet_.inflight().Load(IdOf("a")).requests + fleet_.inflight().Load(IdOf("b")).requests,
            0);
}

TEST_F(DirectorTest, PrintsThePodScoresLineAndTheBeat) {
  LogCapture capture;
  SetLogVerbosity(4);
  Route(Body(Tokens(160)), "q-1").Finish(200);
  StoreAt("b", Tokens(160));
  Route(Body(Tokens(160)), "q-2").Finish(200);
  clock_.Advance(61s);
  director_.Tick();
  SetLogVerbosity(2);
  const std::string text = capture.text();
  EXPECT_NE(
      text.find(
          R"(Got pod scores	{"x-request-id": "q-1", "model": "m", "resolvedTargetModel": "m", )"
          R"("criticality": "Sheddable", "scores": null})"),
      std::string::npos)
      << text;
  // Two engines share the IP, so the port tells them apart.
  EXPECT_NE(text.find(R"("scores": {"127.0.0.1:8002":9}})"), std::string::npos) << text;
  EXPECT_NE(
      text.find("] \"metrics beat\" logger=\"metrics\" admissions=10 evictions=0 lookups=2 hits=9 "
                "latency_count=2 latency_sum=0.000000000 latency_avg=0.000000000"),
      std::string::npos)
      << text;
  const std::string metrics = metrics_.Render();
  EXPECT_NE(metrics.find("llm_d_epp_kv_cache_index_admissions_total 10"), std::string::npos);
  EXPECT_NE(metrics.find("llm_d_epp_kv_cache_index_lookup_hits_total 9"), std::string::npos);
}

TEST_F(DirectorTest, RoutesByLoadAndSaysSoWhereThereAreNoTokens) {
  auto responses = director_.Prepare("r", prompt::Api::kResponses, R"({"model":"m","input":"hi"})");
  ASSERT_TRUE(responses);
  EXPECT_FALSE(responses->tokens_known);
  EXPECT_TRUE(director_.Decide(*responses));
  EXPECT_FALSE(director_.FindRecord("r")->tokens_note.empty());
  EXPECT_NE(
      metrics_.Render().find("warmpath_requests_without_exact_tokens_total{reason=\"api\"} 1"),
      std::string::npos);
  EXPECT_EQ(director_.Prepare("r", prompt::Api::kCompletions, "{").error().code,
            Code::kInvalidArgument);
}

TEST_F(DirectorTest, LargeBodiesArePreparedAtOnceOnlyIfTheirTextIsKnown) {
  std::string text;
  for (int i = 0; text.size() < 100'000; ++i) text += fmt::format("{} words of a text ", i);
  const auto body = [](std::string_view prompt) {
    return fmt::format(R"({{"model":"m","prompt":"{}"}})", prompt);
  };
  const auto quick = [&](const std::string& bytes, prompt::Api api = prompt::Api::kCompletions) {
    RequestAttributes attributes{{{"x-session-token", "t"}}, std::nullopt};
    auto prepared = director_.PrepareIfQuick("r", api, bytes, attributes);
    EXPECT_EQ(attributes.headers.Get("x-session-token").has_value(), !prepared.has_value());
    return prepared;
  };
  EXPECT_TRUE(quick(body("a few words")));
  EXPECT_FALSE(quick(body(text)));
  const auto whole = director_.Prepare("r", prompt::Api::kCompletions, body(text));
  ASSERT_TRUE(whole && whole->tokens_known);
  const auto known = quick(body(text + "and some more"));
  ASSERT_TRUE(known && *known && (*known)->tokens_known);
  EXPECT_GT((*known)->prompt_tokens, whole->prompt_tokens);
  EXPECT_FALSE(quick(body(text), prompt::Api::kEmbeddings));
  EXPECT_FALSE(quick("{" + std::string(100'000, ' ')));
  director_.SetEncoderAbsent("none");
  EXPECT_FALSE(quick(body(text)));
  EXPECT_EQ(metrics_.Render().find("warmpath_requests_without_exact_tokens_total{"),
            std::string::npos);
}

TEST_F(DirectorTest, ManyThreadsDecideWhileTheFleetChanges) {
  StoreAt("b", Tokens(160));
  const std::string body = Body(Tokens(200));
  std::atomic<int> left{3};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        Outcome outcome = Route(body, fmt::format("{}-{}", t, i));
        outcome.ResponseHead(200, true);
        outcome.BodyChunk(10);
        outcome.Usage(200, 160, 1);
        if (i % 3 == 0) {
          outcome.AnswerUnseen();
        } else if (i % 3 == 1) {
          outcome.Finish(200);
        }
      }
      --left;
    });
  }
  while (left > 0) {
    clock_.Advance(20ms);
    fleet_.UpdateForTest(IdOf("a"), [this](fleet::Endpoint& endpoint) {
      endpoint.load.at = clock_.Now();
      ++endpoint.load.kv_blocks;
    });
    director_.Tick();
    for (const DecisionRecord& record : director_.NewestRecords(5))
      EXPECT_EQ(record.endpoints.size(), 2u);
    EXPECT_LE(director_.Predictions(IdOf("b")).exact, 600u);
  }
  for (std::thread& thread : threads) thread.join();
  fleet_.SetEndpoints({});
  director_.Tick();
  EXPECT_EQ(director_.FindRecord("2-199")->endpoints.size(), 2u);
  EXPECT_TRUE(Rendered(
      "llm_d_epp_request_running{fairness_id=\"default-flow\",model_name=\"m\",priority=\"0\","
      "target_model_name=\"m\"} 0"));
}

class DataParallelTest : public DirectorTest {
 protected:
  DataParallelTest() : DirectorTest(",dp=2") {}
};

TEST_F(DataParallelTest, PicksTheRankThatHoldsThePrefixAndPinsIt) {
  StoreAt("b", Tokens(160), 1);
  const Outcome outcome = Route(Body(Tokens(200)));
  EXPECT_EQ(outcome.endpoint().name(), "b");
  EXPECT_EQ(outcome.rank(), 1);
  EXPECT_TRUE(outcome.pin_rank());
}

TEST_F(DataParallelTest, AnIdleEnginesEmptierRankTakesWhatNoRankHolds) {
  StoreAt("b", Tokens(160, 5000));
  auto prepared = director_.Prepare("r", prompt::Api::kCompletions, Body(Tokens(200)));
  ASSERT_TRUE(prepared);
  const auto outcome = director_.Decide(*prepared, {IdOf("a")});
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->rank(), 1);
}

std::shared_ptr<const fleet::Endpoint> MakeEndpoint(fleet::EndpointId id, fleet::Health health,
                                                    std::vector<fleet::ServedModel> models) {
  auto endpoint = std::make_shared<fleet::Endpoint>();
  endpoint->id = id;
  endpoint->spec.url.address = {"127.0.0.1", 8000};
  endpoint->health = health;
  endpoint->models = std::move(models);
  return endpoint;
}

TEST(EligibleEndpoints, FollowsModelAndHealth) {
  const fleet::ServedModel base{"base", "base", ""};
  const fleet::ServedModel other{"other", "other", ""};
  fleet::Snapshot fleet;
  fleet.endpoints = {MakeEndpoint(1, fleet::Health::kHealthy, {base}),
                     MakeEndpoint(2, fleet::Health::kUnhealthy, {base}),
                     MakeEndpoint(3, fleet::Health::kUnknown, {}),
                     MakeEndpoint(4, fleet::Health::kUnhealthy, {other})};
  EXPECT_EQ(EligibleEndpoints(fleet, "base", {})->size(), 1u);
  EXPECT_EQ(EligibleEndpoints(fleet, "base", {1})->front()->id, 3u)
      << "nothing healthy: those not asked yet";
  EXPECT_EQ(EligibleEndpoints(fleet, "base", {1, 3}).error().code, Code::kUnavailable);
  fleet.endpoints.erase(fleet.endpoints.begin() + 2);
  EXPECT_EQ(EligibleEndpoints(fleet, "other", {}).error().code, Code::kUnavailable);
  EXPECT_EQ(EligibleEndpoints(fleet, "nope", {}).error().code, Code::kNotFound);
  EXPECT_EQ(EligibleEndpoints(fleet, "", {})->size(), 1u);
  EXPECT_EQ(EligibleEndpoints({}, "base", {}).error().code, Code::kUnavailable);
}

TEST(EligibleEndpoints, ANameWithoutAnAddressIsNoDestination) {
  auto endpoint = std::make_shared<fleet::Endpoint>();
  endpoint->spec.url.address = {"engine.example", 8000};
  endpoint->health = fleet::Health::kUnknown;
  fleet::Snapshot fleet;
  fleet.endpoints = {endpoint};
  EXPECT_EQ(EligibleEndpoints(fleet, "", {}).error().code, Code::kUnavailable);
  endpoint->resolved = "127.0.0.1:8000";
  EXPECT_TRUE(EligibleEndpoints(fleet, "", {}));
}

TEST(RecordStore, AForgottenRecordComesBackAsNewUnlessSomebodyHasIt) {
  RecordStore store(1, 1 << 20);
  const auto full = [] {
    auto record = std::make_shared<Record>();
    record->request_id = record->model = record->target_model = record->rewrite = "x";
    record->tokens_note = "note";
    record->priority = 1;
    record->prompt_tokens = 2;
    record->names = std::make_shared<RecordNames>(RecordNames{{{"scorer", 1}}, {"filter"}});
    record->roster = std::make_shared<Roster>(
        Roster{std::make_shared<EndpointName>(EndpointName{1, "a", "http://a"})});
    record->verdicts.resize(1);
    record->scores = {0.5};
    record->chosen_place = 0;
    record->at = WallTime(Duration(1));
    record->decision_ms = 1;
    MutexLock lock(record->mutex);
    record->chosen = "b";
    record->status = 200;
    record->aborted = record->unseen = true;
    record->attempts = 2;
    record->delivered_cached_tokens = record->delivered_prompt_tokens = 3;
    record->delivered_output_tokens = 3;
    record->first_byte_ms = record->total_ms = 4;
    return record;
  };
  EXPECT_EQ(store.Add(full()), nullptr);
  const std::shared_ptr<Record> again = store.Add(full());
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(codec::DumpJson(ToJson(again->Read(), true)),
            codec::DumpJson(ToJson(Record().Read(), true)));
  EXPECT_EQ(again->verdicts.size() + again->scores.size() + again->rewrite.size(), 0u);
  EXPECT_EQ(again->at, WallTime());
  const auto held = full();
  store.Add(held);
  EXPECT_EQ(store.Add(full()), nullptr);
}

TEST(RecordStore, ForgetsTheOldestBeyondItsBounds) {
  RecordStore store(2, 1 << 20);
  for (const char* id : {"1", "2", "3"}) {
    auto record = std::make_shared<Record>();
    record->request_id = id;
    store.Add(record);
  }
  EXPECT_FALSE(store.Find("1"));
  EXPECT_TRUE(store.Find("3"));
  EXPECT_EQ(store.Newest(10).front().request_id, "3");
}

}  // namespace
}  // namespace warmpath::routing
