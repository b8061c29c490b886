// Decisions as tables: a fleet and a request, the plugin configured, and the scores and pick that
// must follow.
#include "scheduling/scheduler.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <thread>

#include "base/units.h"
#include "scheduling/plugin.h"

namespace warmpath::scheduling {
namespace {

using ::testing::HasSubstr;

// One endpoint per line: a name, then key=value words.
//   waiting running kv            scraped load
//   inflight prefilling tokens    requests, those before their first token, their uncached tokens
//   match=u/t bs prompt           usable and total blocks, block size, prompt tokens
//   resident capacity             blocks
//   anything else                 a label
Request MakeRequest(std::string_view fleet) {
  Request request;
  request.id = "q";
  request.model = "m";
  request.tokens_known = true;
  for (const std::string_view line : Split(fleet, '\n')) {
    if (Trim(line).empty()) continue;
    auto endpoint = std::make_shared<fleet::Endpoint>();
    Candidate c;
    c.block_size = 64;
    for (const std::string_view word : Split(Trim(line), ' ')) {
      const auto equals = word.find('=');
      if (equals == std::string_view::npos) {
        endpoint->spec.name = word;
        continue;
      }
      const std::string_view key = word.substr(0, equals);
      const std::string_view text = word.substr(equals + 1);
      if (key == "match") {
        const auto parts = Split(text, '/');
        c.expected_usable_blocks = static_cast<uint32_t>(*ParseInt(parts[0]));
        c.total_blocks = static_cast<uint32_t>(*ParseInt(parts[1]));
        c.exact = true;
        continue;
      }
      const auto number = ParseDouble(text);
      const double value = number ? *number : 0;
      const auto whole = std::isfinite(value) ? static_cast<int64_t>(value) : 0;
      if (key == "waiting")
        endpoint->load.waiting = value;
      else if (key == "running")
        endpoint->load.running = value;
      else if (key == "kv")
        endpoint->load.kv_usage = value;
      else if (key == "inflight")
        c.inflight.requests = whole;
      else if (key == "prefilling")
        c.inflight.prefill_requests = whole;
      else if (key == "tokens")
        c.inflight.tokens = c.inflight.prefill_tokens = whole;
      else if (key == "bs")
        c.block_size = static_cast<uint32_t>(whole);
      else if (key == "prompt")
        c.prompt_tokens = static_cast<uint64_t>(whole);
      else if (key == "resident")
        c.resident_blocks = static_cast<uint64_t>(whole);
      else if (key == "capacity")
        c.capacity_blocks = static_cast<uint64_t>(whole);
      else if (key == "dp")
        endpoint->spec.data_parallel = static_cast<uint16_t>(whole);
      else
        endpoint->spec.labels[std::string(key)] = text;
    }
    endpoint->id = static_cast<fleet::EndpointId>(request.candidates.size() + 1);
    c.usable_blocks = c.matched_blocks = c.expected_usable_blocks;
    c.cached_tokens = c.expected_cached_tokens = uint64_t{c.expected_usable_blocks} * c.block_size;
    request.prompt_tokens = std::max(request.prompt_tokens, c.prompt_tokens);
    // Decisions do not outlive this program.
    static std::vector<std::shared_ptr<const fleet::Endpoint>> endpoints;
    c.endpoint = endpoints.emplace_back(std::move(endpoint)).get();
    request.candidates.push_back(std::move(c));
  }
  return request;
}

std::unique_ptr<Scheduler> Make(std::vector<PluginSpec> plugins,
                                std::vector<ProfileSpec> profiles = {}) {
  auto scheduler = Scheduler::Create({std::move(plugins), std::move(profiles)});
  EXPECT_TRUE(scheduler) << scheduler.error().message;
  return std::move(*scheduler);
}

std::string ErrorOf(std::vector<PluginSpec> plugins, std::vector<ProfileSpec> profiles = {}) {
  const auto scheduler = Scheduler::Create({std::move(plugins), std::move(profiles)});
  return scheduler ? "created" : scheduler.error().message;
}

// "a=1 b=0.25 c=-" ("-": filtered out), of scorer number `which`.
std::string Scores(Request request, const Decision& decision, size_t which = 0) {
  std::string text;
  for (size_t i = 0; i < request.candidates.size(); ++i) {
    const double score = decision.scores[which].scores[i];
    text += fmt::format("{}{}={}", i == 0 ? "" : " ", request.candidates[i].endpoint->name(),
                        std::isnan(score) ? "-" : fmt::format("{:.4g}", score));
  }
  return text;
}

struct ScoreCase {
  const char* title;
  const char* type;
  const char* parameters;
  const char* fleet;
  const char* scores;
};

class ScorerFormula : public ::testing::TestWithParam<ScoreCase> {};

TEST_P(ScorerFormula, GivesTheScoresOfTheTable) {
  const ScoreCase& c = GetParam();
  const auto scheduler = Make({{c.type, "", c.parameters}});
  Request request = MakeRequest(c.fleet);
  EXPECT_EQ(Scores(request, scheduler->Schedule(request)), c.scores);
}

constexpr const char* kCacheTracking = R"({"mode":"cache_tracking"})";
INSTANTIATE_TEST_SUITE_P(
    Plugins, ScorerFormula,
    ::testing::Values(
        ScoreCase{"QueueSpread", "queue-scorer", "{}", "a waiting=0\nb waiting=5\nc waiting=20",
                  "a=1 b=0.75 c=0"},
        ScoreCase{"QueueEqual", "queue-scorer", "{}", "a waiting=4\nb waiting=4", "a=1 b=1"},
        ScoreCase{"Running", "running-requests-size-scorer", "{}",
                  "a running=1\nb running=2\nc running=5", "a=1 b=0.75 c=0"},
        ScoreCase{"KvUsage", "kv-cache-utilization-scorer", "{}", "a kv=0.25\nb kv=1\nc",
                  "a=0.75 b=0 c=1"},
        ScoreCase{"KvUsageOldName", "kv-cache-scorer", "{}", "a kv=0.25", "a=0.75"},
        ScoreCase{"LoadAware", "load-aware-scorer", "{}", "a\nb waiting=64\nc waiting=500",
                  "a=0.5 b=0.25 c=0"},
        ScoreCase{"LoadAwareThreshold", "load-aware-scorer", R"({"threshold":10})", "a waiting=5",
                  "a=0.25"},
        ScoreCase{"ActiveRequests", "active-request-scorer", "{}", "a\nb inflight=1\nc inflight=4",
                  "a=1 b=0.75 c=0"},
        ScoreCase{"ActiveRequestsIdleAndBusy", "active-request-scorer",
                  R"({"idleThreshold":1,"maxBusyScore":0.5})",
                  "a inflight=1\nb inflight=2\nc inflight=4", "a=1 b=0.25 c=0"},
        ScoreCase{"TokenLoad", "token-load-scorer", R"({"queueThresholdTokens":1000})",
                  "a prompt=192 match=3/3\nb prompt=192 match=1/3 tokens=372\nc tokens=5000",
                  "a=1 b=0.5 c=0"},
        ScoreCase{"Prefix", "prefix-cache-scorer", "{}",
                  "a prompt=192 match=2/3\nb prompt=192 match=0/3\nc", "a=0.6667 b=0 c=0"},
        ScoreCase{"PrefixWithLength", "prefix-cache-scorer",
                  R"({"matchLengthWeight":0.5,"matchLengthScaleTokens":256})",
                  "a prompt=256 match=2/4\nb prompt=512 match=8/8", "a=0.375 b=1"},
        ScoreCase{"PreciseWrapper", "precise-prefix-cache-scorer",
                  R"({"indexerConfig":{"tokenProcessorConfig":{"blockSize":64}}})",
                  "a prompt=256 match=1/4", "a=0.25"},
        ScoreCase{"TrackingNormalisesOverHolders", "prefix-cache-scorer", kCacheTracking,
                  "a match=2/9\nb match=4/9\nc match=6/9\nd match=0/9", "a=0 b=0.5 c=1 d=0"},
        ScoreCase{"TrackingOneHolder", "prefix-cache-scorer", kCacheTracking,
                  "a match=2/3\nb match=0/3", "a=1 b=0"},
        ScoreCase{"TrackingNobody", "prefix-cache-scorer", kCacheTracking,
                  "a match=0/3\nb match=0/3", "a=0 b=0"},
        // Cost of a: 3 * (5 ms + 100 us * 1000) = 315 ms; of b with 5 of 10 blocks of 100: 3 * (5 +
        // 50) = 165 ms; of c as b behind 3000 tokens: 465 ms.
        ScoreCase{"CostOfWaitAndPrefill", "expected-cost-scorer", "{}",
                  "a prompt=1000 bs=100 match=0/10\nb prompt=1000 bs=100 match=5/10\n"
                  "c prompt=1000 bs=100 match=5/10 tokens=3000 inflight=1 prefilling=1",
                  "a=0.5238 b=1 c=0.3548"},
        // Storing 10 new blocks of 100 evicts 6: 0.6 * 100 us * 100 * 6 = 36 ms on top of 315.
        ScoreCase{"CostOfEviction", "expected-cost-scorer", "{}",
                  "a prompt=1000 bs=100 match=0/10 resident=96 capacity=100\n"
                  "b prompt=1000 bs=100 match=0/10 resident=90 capacity=100",
                  "a=0.8974 b=1"},
        // 32 decodes: prefill 1.5 times slower: 3 * (5 + 150) = 465.
        ScoreCase{"CostBesideDecodes", "expected-cost-scorer", "{}",
                  "a prompt=1000 inflight=32\nb prompt=1000", "a=0.6774 b=1"},
        // 10 requests of others wait: 10 * 105 ms on top of 315.
        ScoreCase{"CostBehindOthersRequests", "expected-cost-scorer", "{}",
                  "a prompt=1000 waiting=12 inflight=2 prefilling=2\nb prompt=1000",
                  "a=0.2308 b=1"},
        ScoreCase{"CostWaitSharedByRanks", "expected-cost-scorer", "{}",
                  "a prompt=1000 tokens=3150 dp=2 prefilling=1 inflight=1\nb prompt=1000",
                  "a=0.6667 b=1"},
        ScoreCase{"CostWithoutTokensGoesByLoad", "expected-cost-scorer", "{}",
                  "a inflight=1 prefilling=1 tokens=300\nb", "a=0.3333 b=1"},
        ScoreCase{
            "CostWeights", "expected-cost-scorer",
            R"({"prefillWeight":1,"evictionWeight":0,"priorBase":"10ms","priorPerToken":"10us"})",
            "a prompt=1000 bs=100 resident=100 capacity=100\nb prompt=1000 bs=100 match=9/10",
            "a=0.55 b=1"}),
    [](const auto& param) { return param.param.title; });

struct FilterCase {
  const char* title;
  const char* type;
  const char* parameters;
  const char*
      kept;  // of: a (no label), b role=decode, c role=prefill, d llm-d.ai/role=both, e role=encode
};
class LabelFilter : public ::testing::TestWithParam<FilterCase> {};

TEST_P(LabelFilter, KeepsTheEndpointsOfTheTable) {
  const FilterCase& c = GetParam();
  const auto scheduler = Make({{c.type, "the-filter", c.parameters}});
  Request request =
      MakeRequest("a\nb role=decode\nc role=prefill\nd llm-d.ai/role=both\ne role=encode zone=z1");
  const Decision decision = scheduler->Schedule(request);
  std::string kept;
  for (size_t i = 0; i < request.candidates.size(); ++i) {
    if (decision.filtered_by[i].empty()) {
      kept += request.candidates[i].endpoint->name();
    } else {
      EXPECT_EQ(decision.filtered_by[i], "the-filter");
      EXPECT_TRUE(std::isnan(decision.totals[i]));
    }
  }
  EXPECT_EQ(kept, c.kept);
  EXPECT_EQ(decision.picked.empty(), kept.empty());
}

INSTANTIATE_TEST_SUITE_P(
    Plugins, LabelFilter,
    ::testing::Values(
        FilterCase{"Decode", "decode-filter", "{}", "abd"},
        FilterCase{"Prefill", "prefill-filter", "{}", "cd"},
        FilterCase{"Encode", "encode-filter", "{}", "e"},
        FilterCase{"ByLabel", "by-label", R"({"label":"role","validValues":["decode","encode"]})",
                   "be"},
        FilterCase{"ByLabelOrNone", "by-label",
                   R"({"label":"role","validValues":["decode"],"allowsNoLabel":true})", "abd"},
        FilterCase{"MatchLabels", "label-selector-filter",
                   R"({"matchLabels":{"role":"encode","zone":"z1"}})", "e"},
        FilterCase{"Expressions", "by-label-selector",
                   R"({"matchExpressions":[{"key":"role","operator":"Exists"},
                       {"key":"role","operator":"NotIn","values":["prefill"]}]})",
                   "be"},
        FilterCase{"NotThere", "label-selector-filter",
                   R"({"matchExpressions":[{"key":"role","operator":"DoesNotExist"}]})", "ad"},
        FilterCase{"Nothing", "label-selector-filter", R"({"matchLabels":{"role":"none"}})", ""}),
    [](const auto& param) { return param.param.title; });

TEST(Scheduler, AddsWeightedScoresAndPicksTheHighest) {
  const auto scheduler = Make(
      {{"prefix-cache-scorer", "", kCacheTracking},
       {"kv-cache-scorer", "", "{}"},
       {"queue-scorer", "", "{}"}},
      {{"default", {{"prefix-cache-scorer", 2}, {"kv-cache-scorer", 1}, {"queue-scorer", 1}}}});
  Request request = MakeRequest("a match=2/3 kv=0.5 waiting=3\nb match=0/3 kv=0 waiting=0");
  const Decision decision = scheduler->Schedule(request);
  EXPECT_DOUBLE_EQ(decision.totals[0], 2.5);
  EXPECT_DOUBLE_EQ(decision.totals[1], 2.0);
  EXPECT_EQ(decision.picked, std::vector<size_t>{0});
  EXPECT_EQ(decision.picker, "max-score-picker");
  EXPECT_EQ(decision.profile, "default");
  ASSERT_EQ(decision.scores.size(), 3u);
  EXPECT_EQ(decision.scores[0].plugin, "prefix-cache-scorer");
  EXPECT_EQ(decision.scores[0].weight, 2);
  EXPECT_EQ(scheduler->prefix_scorer(), "prefix-cache-scorer/prefix-cache-scorer");
  EXPECT_EQ(scheduler->scorers().size(), 3u);
}

TEST(Scheduler, ScoresOnlyWhatFiltersLeft) {
  const auto scheduler = Make({{"decode-filter", "", "{}"}, {"queue-scorer", "", "{}"}});
  Request request = MakeRequest("a role=prefill waiting=0\nb waiting=10\nc waiting=20");
  const Decision decision = scheduler->Schedule(request);
  EXPECT_EQ(Scores(request, decision), "a=- b=1 c=0");
  EXPECT_EQ(decision.picked, std::vector<size_t>{1});
}

TEST(Scheduler, EmptyFleetPicksNothing) {
  EXPECT_TRUE(
      Make(DefaultSchedulerSpec().plugins)->Schedule(*std::make_unique<Request>()).picked.empty());
}

// How often each of `fleet` is picked in 3000 requests.
std::vector<int> Histogram(const Scheduler& scheduler, std::string_view fleet) {
  Request request = MakeRequest(fleet);
  std::vector<int> counts(request.candidates.size());
  for (int i = 0; i < 3000; ++i) ++counts[scheduler.DryRun(request).picked.front()];
  return counts;
}

TEST(Pickers, MaxScoreBreaksTiesAtRandom) {
  const auto counts = Histogram(*Make({{"queue-scorer", "", "{}"}}), "a\nb\nc waiting=1");
  EXPECT_NEAR(counts[0], 1500, 150);
  EXPECT_EQ(counts[2], 0);
}

TEST(Pickers, RandomIgnoresScores) {
  const auto counts = Histogram(*Make({{"queue-scorer", "", "{}"}, {"random-picker", "", "{}"}}),
                                "a\nb\nc waiting=1");
  for (const int count : counts) EXPECT_NEAR(count, 1000, 130);
}

TEST(Pickers, WeightedRandomFollowsTheTotals) {
  const auto scheduler =
      Make({{"kv-cache-scorer", "", "{}"}, {"weighted-random-picker", "", "{}"}});
  const auto counts = Histogram(*scheduler, "a kv=0.25\nb kv=0.75\nc kv=1");
  EXPECT_NEAR(counts[0], 2250, 150);
  EXPECT_NEAR(counts[1], 750, 150);
  EXPECT_EQ(counts[2], 0);
  for (const int count : Histogram(*scheduler, "a kv=1\nb kv=1")) EXPECT_NEAR(count, 1500, 150);
}

TEST(Pickers, ReturnAsManyEndpointsAsAskedFor) {
  const auto scheduler =
      Make({{"queue-scorer", "", "{}"}, {"max-score-picker", "", R"({"maxNumOfEndpoints":2})"}});
  EXPECT_EQ(scheduler->Schedule(MakeRequest("a waiting=5\nb waiting=3\nc waiting=1")).picked,
            (std::vector<size_t>{2, 1}));
  const auto zero = Make({{"max-score-picker", "", R"({"maxNumOfEndpoints":0})"}});
  EXPECT_EQ(zero->Schedule(MakeRequest("a\nb")).picked.size(), 1u);
}

TEST(ExpectedCost, TiesGoToTheFewestInFlight) {
  const auto scheduler = Make(DefaultSchedulerSpec().plugins);
  Request request = MakeRequest(
      "a prompt=1000 inflight=2 prefilling=2\nb prompt=1000 inflight=1 prefilling=1\nc prompt=1000 "
      "inflight=3 prefilling=3");
  for (int i = 0; i < 20; ++i) EXPECT_EQ(scheduler->Schedule(request).picked.front(), 1u);
}

TEST(ExpectedCost, TieReachesToFivePercentAndNoFurther) {
  const auto scheduler = Make(DefaultSchedulerSpec().plugins);
  // 15 ms and 20 ms of wait against a cost of 315 ms.
  EXPECT_EQ(
      scheduler
          ->DryRun(MakeRequest("a prompt=1000 inflight=5 prefilling=5\nb prompt=1000 tokens=150"))
          .picked.front(),
      1u);
  EXPECT_EQ(
      scheduler
          ->DryRun(MakeRequest("a prompt=1000 inflight=5 prefilling=5\nb prompt=1000 tokens=200"))
          .picked.front(),
      0u);
}

TEST(ExpectedCost, ColdPromptsGoRound) {
  const auto scheduler = Make(DefaultSchedulerSpec().plugins);
  Request request =
      MakeRequest("a prompt=1000 match=0/9\nb prompt=1000 match=0/9\nc prompt=1000 match=0/9");
  std::vector<size_t> order;
  for (int i = 0; i < 6; ++i) order.push_back(scheduler->Schedule(request).picked.front());
  EXPECT_EQ(std::set<size_t>(order.begin(), order.begin() + 3).size(), 3u);
  EXPECT_TRUE(std::equal(order.begin(), order.begin() + 3, order.begin() + 3));
}

TEST(ExpectedCost, DryRunRemembersNothing) {
  const auto scheduler = Make(DefaultSchedulerSpec().plugins);
  Request request = MakeRequest("a prompt=1000 match=0/9\nb prompt=1000 match=0/9");
  const size_t first = scheduler->DryRun(request).picked.front();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(scheduler->DryRun(request).picked.front(), first);
  EXPECT_EQ(scheduler->Schedule(request).picked.front(), first);
  EXPECT_NE(scheduler->DryRun(request).picked.front(), first);
}

TEST(ExpectedCost, StaysWithTheWarmEndpointUntilItsQueueCostsMore) {
  const auto scheduler = Make(DefaultSchedulerSpec().plugins);
  const char* warm =
      "a prompt=6400 match=99/100 inflight=3 prefilling=3 tokens={}\nb prompt=6400 match=0/100";
  EXPECT_EQ(scheduler->DryRun(MakeRequest(fmt::format(fmt::runtime(warm), 15000))).picked.front(),
            0u);
  EXPECT_EQ(scheduler->DryRun(MakeRequest(fmt::format(fmt::runtime(warm), 25000))).picked.front(),
            1u);
}

TEST(ExpectedCost, UnknownTermIsLeftOutAndNoted) {
  const auto scheduler = Make(DefaultSchedulerSpec().plugins);
  Request request = MakeRequest("a prompt=1000 waiting=nan\nb prompt=1000 waiting=inf");
  const Decision decision = scheduler->Schedule(request);
  ASSERT_EQ(decision.picked.size(), 1u);
  ASSERT_FALSE(decision.notes.empty());
  EXPECT_THAT(decision.notes.back(), HasSubstr("b: wait of the cost is unknown"));
}

TEST(ExpectedCost, LearnsASlowEndpointFromItsFirstTokens) {
  const auto scheduler = Make(DefaultSchedulerSpec().plugins);
  Request request = MakeRequest("a prompt=2000 inflight=0\nb prompt=2000 inflight=5 prefilling=5");
  EXPECT_EQ(scheduler->DryRun(request).picked.front(), 0u);
  for (int i = 0; i < 40; ++i) {
    const auto tokens = static_cast<uint64_t>(500 + 100 * (i % 20));
    scheduler->Observe({1, tokens, {}, FromSeconds(0.005 + 400e-6 * static_cast<double>(tokens))});
    scheduler->Observe({2, tokens, {}, FromSeconds(0.005 + 100e-6 * static_cast<double>(tokens))});
  }
  const Decision decision = scheduler->DryRun(request);
  EXPECT_EQ(decision.picked.front(), 1u);
  EXPECT_NEAR(decision.scores[0].scores[0], 0.25, 0.05);
}

TEST(ExpectedCost, SpreadsColdPromptsOverMachinesThatOnlyNoiseTellsApart) {
  const auto scheduler = Make(DefaultSchedulerSpec().plugins);
  for (int i = 0; i < 40; ++i) {
    const auto tokens = static_cast<uint64_t>(500 + 100 * (i % 20));
    const double seconds = 0.005 + 100e-6 * static_cast<double>(tokens);
    scheduler->Observe({1, tokens, {}, FromSeconds(seconds * 1.1)});
    scheduler->Observe({2, tokens, {}, FromSeconds(seconds * 0.9)});
  }
  Request request = MakeRequest("a prompt=2000\nb prompt=2000");
  int picks_of_a = 0;
  for (int i = 0; i < 10; ++i) picks_of_a += scheduler->Schedule(request).picked.front() == 0;
  EXPECT_EQ(picks_of_a, 5);
}

TEST(SchedulerThreads, DecidesAndLearnsConcurrently) {
  const auto scheduler = Make(DefaultSchedulerSpec().plugins);
  Request request = MakeRequest("a prompt=1000\nb prompt=1000\nc prompt=1000 match=2/9");
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        const size_t pick = scheduler->Schedule(request).picked.front();
        scheduler->Observe(
            {request.candidates[pick].endpoint->id, 1000, {}, std::chrono::milliseconds(100)});
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(Specification, FillsInWhatIsLeftOut) {
  const auto spec = CompleteSpec({{{"queue-scorer", "", "{}"}, {"token-producer", "", "{}"}}, {}});
  ASSERT_TRUE(spec);
  ASSERT_EQ(spec->profiles.size(), 1u);
  EXPECT_EQ(spec->profiles[0].name, "default");
  ASSERT_EQ(spec->profiles[0].plugins.size(), 2u);
  EXPECT_EQ(spec->profiles[0].plugins[0].plugin, "queue-scorer");
  EXPECT_EQ(spec->profiles[0].plugins[1].plugin, "max-score-picker");
  EXPECT_EQ(spec->plugins.size(), 4u);  // and single-profile-handler
  EXPECT_EQ(CompleteSpec(*spec)->plugins.size(), 4u);
}

TEST(Specification, PickerOfAnotherNameIsNotShadowed) {
  const auto spec =
      CompleteSpec({{{"random-picker", "max-score-picker", "{}"}, {"queue-scorer", "", "{}"}},
                    {{"default", {{"queue-scorer", 1}}}}});
  ASSERT_TRUE(spec);
  EXPECT_EQ(spec->profiles[0].plugins[1].plugin, "max-score-picker-2");
}

TEST(Specification, RefusesWhatCannotBeMeant) {
  EXPECT_EQ(ErrorOf({{"", "x", "{}"}}), "plugin 'x' is missing a type");
  EXPECT_EQ(ErrorOf({{"queue-scorer", "", "{}"}, {"queue-scorer", "", "{}"}}),
            "duplicate plugin name 'queue-scorer'");
  EXPECT_THAT(ErrorOf({{"nope", "", "{}"}}), HasSubstr("plugin type 'nope' is not registered"));
  EXPECT_EQ(ErrorOf({}, {{"p", {{"nope", 1}}}}),
            "schedulingProfiles[p] references undefined plugin 'nope'");
  EXPECT_EQ(ErrorOf({}, {{"", {}}}), "schedulingProfiles[0] is missing a name");
  EXPECT_EQ(ErrorOf({}, {{"p", {}}, {"p", {}}}), "schedulingProfiles[1] has duplicate name 'p'");
  EXPECT_EQ(ErrorOf({}, {{"p", {}}, {"q", {}}}), "no profile handler configured");
  EXPECT_THAT(ErrorOf({{"single-profile-handler", "", "{}"}}, {{"p", {}}, {"q", {}}}),
              HasSubstr("runs exactly one scheduling profile, 2 are configured"));
  EXPECT_THAT(
      ErrorOf({{"single-profile-handler", "a", "{}"}, {"single-profile-handler", "b", "{}"}}),
      HasSubstr("multiple profile handlers found ('a', 'b')"));
  EXPECT_THAT(ErrorOf({{"random-picker", "", "{}"}, {"max-score-picker", "", "{}"}}),
              HasSubstr("failed to set 'max-score-picker' as picker, already have"));
  EXPECT_THAT(ErrorOf({{"token-producer", "", "{}"}}, {{"p", {{"token-producer", 1}}}}),
              HasSubstr("is no filter, scorer or picker"));
}

TEST(Parameters, ErrorsNamePluginParameterAndWhatIsAllowed) {
  EXPECT_EQ(ErrorOf({{"prefix-cache-scorer", "p", R"({"matchLengthWight":1})"}}).substr(0, 90),
            std::string("plugin 'p' (type: prefix-cache-scorer): parameters.matchLengthWight: "
                        "unknown parameter; allowed: ")
                .substr(0, 90));
  EXPECT_EQ(ErrorOf({{"load-aware-scorer", "", R"({"threshold":"many"})"}}),
            "plugin 'load-aware-scorer' (type: load-aware-scorer): parameters.threshold: must be a "
            "number");
  EXPECT_THAT(ErrorOf({{"prefix-cache-scorer", "", R"({"mode":"guess"})"}}),
              HasSubstr("parameters.mode: 'guess' is unknown; allowed: cache_tracking, estimate"));
  EXPECT_THAT(ErrorOf({{"prefix-cache-scorer", "", R"({"matchLengthWeight":2})"}}),
              HasSubstr("parameters.matchLengthWeight: must be between 0 and 1"));
  EXPECT_THAT(ErrorOf({{"max-score-picker", "", R"({"maxNumOfEndpoints":1.5})"}}),
              HasSubstr("must be a whole number"));
  EXPECT_THAT(ErrorOf({{"by-label", "", R"({"validValues":["a"]})"}}),
              HasSubstr("parameters.label: is missing"));
  EXPECT_THAT(ErrorOf({{"by-label", "", R"({"label":"l","validValues":["a",null]})"}}),
              HasSubstr("parameters.validValues[1]: is empty"));
  EXPECT_THAT(ErrorOf({{"label-selector-filter", "", R"({"matchLabels":{"a":1}})"}}),
              HasSubstr("parameters.matchLabels: 'a' must be a string"));
  EXPECT_THAT(ErrorOf({{"prefix-cache-scorer", "",
                        R"({"indexerConfig":{"tokenProcessorConfig":{"hashSeed":42}}})"}}),
              HasSubstr("parameters.indexerConfig.tokenProcessorConfig.hashSeed: must be a string: "
                        "put it in quotes"));
  EXPECT_THAT(ErrorOf({{"precise-prefix-cache-producer", "",
                        R"({"indexerConfig":{"tokenizersPoolConfig":null}})"}}),
              HasSubstr("configure a token-producer plugin instead"));
  EXPECT_THAT(ErrorOf({{"queue-scorer", "", R"({"x":1})"}}), HasSubstr("none are allowed here"));
  EXPECT_THAT(ErrorOf({{"queue-scorer", "", "[]"}}), HasSubstr("parameters: must be a map"));
  EXPECT_THAT(ErrorOf({{"queue-scorer", "", "{"}}),
              HasSubstr("plugin 'queue-scorer' (type: queue-scorer): parameters"));
  EXPECT_EQ(
      ErrorOf(
          {{"precise-prefix-cache-producer", "",
            R"({"speculativeTTL":"2s","indexerConfig":{"kvBlockIndexConfig":{"metricsLoggingInterval":60000000000}}})"}}),
      "created");
}

TEST(Specification, MakesAnApproximateProducerForWhoReadsNone) {
  const auto types = [](std::vector<PluginSpec> plugins) {
    const auto spec = CompleteSpec({std::move(plugins), {}});
    EXPECT_TRUE(spec) << spec.error().message;
    EXPECT_EQ(CompleteSpec(*spec)->plugins.size(), spec->plugins.size());
    std::string text;
    for (const PluginSpec& plugin : spec->plugins) {
      if (plugin.type.ends_with("-producer")) text += plugin.type + " ";
    }
    return text;
  };
  EXPECT_EQ(types({{"prefix-cache-scorer", "", "{}"}}), "approx-prefix-cache-producer ");
  EXPECT_EQ(types({{"prefix-cache-scorer", "", kCacheTracking}}), "");
  EXPECT_EQ(types({{"expected-cost-scorer", "", "{}"}}), "");
  EXPECT_EQ(types({{"precise-prefix-cache-scorer", "", "{}"}}), "");
  EXPECT_EQ(types({{"prefix-cache-scorer", "", "{}"}, {"precise-prefix-cache-producer", "", "{}"}}),
            "precise-prefix-cache-producer ");
  EXPECT_EQ(types({{"prefix-cache-scorer", "",
                    R"({"prefixMatchInfoProducerName":"approx-prefix-cache-producer"})"},
                   {"precise-prefix-cache-producer", "", "{}"}}),
            "precise-prefix-cache-producer approx-prefix-cache-producer ");
}

TEST(Specification, EstimateModeKeepsItsParameters) {
  const auto spec =
      CompleteSpec({{{"prefix-cache-scorer", "",
                      R"({"mode":"estimate","hashBlockSize":128,"lruCapacityPerServer":9})"}},
                    {}});
  ASSERT_TRUE(spec);
  EXPECT_EQ(spec->plugins[1].parameters_json,
            R"({"autoTune":false,"blockSizeTokens":32,"maxPrefixBlocksToMatch":256,)"
            R"("maxPrefixTokensToMatch":0,"lruCapacityPerServer":9})");
}

TEST(Specification, NotesWhereItReadsThePreciseProducerUnasked) {
  const auto spec = CompleteSpec(
      {{{"prefix-cache-scorer", "", "{}"}, {"precise-prefix-cache-producer", "p"}}, {}});
  ASSERT_TRUE(spec);
  ASSERT_EQ(spec->notes.size(), 1u);
  EXPECT_THAT(
      spec->notes[0],
      HasSubstr("'prefix-cache-scorer' names no prefixMatchInfoProducerName: it reads 'p'"));
  EXPECT_TRUE(CompleteSpec({{{"prefix-cache-scorer", "", R"({"prefixMatchInfoProducerName":"p"})"},
                             {"precise-prefix-cache-producer", "p"}},
                            {}})
                  ->notes.empty());
}

TEST(Specification, RefusesReferencesThatLeadNowhere) {
  EXPECT_THAT(ErrorOf({{"prefix-cache-scorer", "", R"({"prefixMatchInfoProducerName":"nope"})"}}),
              HasSubstr("a plugin has a dependency on the unregistered plugin nope"));
  EXPECT_THAT(ErrorOf({{"prefix-cache-scorer", "", R"({"prefixMatchInfoProducerName":"q"})"},
                       {"queue-scorer", "q"}}),
              HasSubstr("'q' produces no prefix matches"));
  SchedulerSpec spec = DefaultSchedulerSpec();
  spec.saturation_detector = "nope";
  EXPECT_EQ(Scheduler::Create(spec).error().message,
            "saturation detector references undefined plugin 'nope'");
  spec.saturation_detector = "max-score-picker";
  EXPECT_THAT(Scheduler::Create(spec).error().message,
              HasSubstr("which is no saturation detector"));
}

TEST(Specification, RefusesTypesItDoesNotHaveAndUnlockedExperiments) {
  EXPECT_THAT(ErrorOf({{"latency-scorer", ""}}),
              HasSubstr("plugin type 'latency-scorer' is not available: there is no latency"));
  EXPECT_EQ(ErrorOf({{"session-affinity-scorer", "s"}}),
            "plugin 's' (type: 'session-affinity-scorer') has Alpha stability level, but command "
            "line flag --allow-experimental-plugins is not set");
  SchedulerOptions options;
  options.allow_experimental = true;
  EXPECT_TRUE(Scheduler::Create({{{"session-affinity-scorer", "s"}}, {}}, options));
}

TEST(Scheduler, TimesItsPlugins) {
  Registry metrics;
  SchedulerOptions options;
  options.metrics = &metrics;
  const auto scheduler =
      Scheduler::Create({{{"decode-filter", ""}, {"queue-scorer", "q"}}, {}}, options);
  ASSERT_TRUE(scheduler);
  (*scheduler)->Schedule(MakeRequest("a\nb"));
  const std::string text = metrics.Render();
  for (const char* labels :
       {R"(extension_point="Filter",plugin_name="decode-filter",plugin_type="decode-filter")",
        R"(extension_point="Scorer",plugin_name="q",plugin_type="queue-scorer")",
        R"(extension_point="Picker",plugin_name="max-score-picker")"}) {
    EXPECT_THAT(text, HasSubstr(labels)) << text;
  }
}

TEST(Registry, SaysOfEveryTypeWhatItIs) {
  std::set<std::string> names;
  for (const PluginType* type : AllPluginTypes()) {
    EXPECT_TRUE(names.insert(type->name).second);
    EXPECT_TRUE(type->refused.empty() || !type->create) << type->name;
    EXPECT_TRUE(type->role == Role::kPassive || type->create || !type->refused.empty())
        << type->name;
  }
  EXPECT_GT(names.size(), 80u);
}

TEST(Registry, KnowsEveryTypeByRole) {
  EXPECT_THAT(
      PluginTypeNames(Role::kPicker),
      ::testing::ElementsAre("max-score-picker", "random-picker", "weighted-random-picker"));
  EXPECT_NE(FindPluginType("precise-prefix-cache-producer"), nullptr);
  EXPECT_EQ(FindPluginType("nope"), nullptr);
}

}  // namespace
}  // namespace warmpath::scheduling
