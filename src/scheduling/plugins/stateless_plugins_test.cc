// Filters and scorers that keep no state, as tables: a fleet and a request, and the scores or the
// endpoints kept.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/units.h"
#include "scheduling/scheduler.h"

namespace warmpath::scheduling {
namespace {

using ::testing::HasSubstr;

struct Problem {
  std::vector<std::shared_ptr<const fleet::Endpoint>> endpoints;
  Request request;
  net::Headers headers;
  std::vector<kv::TokenId> pseudo_tokens;
};

// One endpoint per line: a name, then key=value words.
//   waiting running kv      scraped load (scraped=no: never scraped)
//   requests tokens         in flight
//   exact=u/t               blocks of 64 tokens held and asked for, by events
//   custom.KEY              a custom metric
//   anything else           a label
// "request" as a name is the request: prompt (exact tokens), pseudo (estimated ones), else a
// header.
std::unique_ptr<Problem> Read(std::string_view text) {
  auto problem = std::make_unique<Problem>();
  Request& request = problem->request;
  request.tokens_known = true;
  for (const std::string_view line : Split(text, '\n')) {
    const auto words = Split(Trim(line), ' ');
    auto endpoint = std::make_shared<fleet::Endpoint>();
    endpoint->spec.name = words[0];
    endpoint->load.at = TimePoint(std::chrono::seconds(1));
    Candidate c;
    c.block_size = 64;
    for (size_t i = 1; i < words.size(); ++i) {
      const auto equals = words[i].find('=');
      const std::string key(words[i].substr(0, equals));
      const std::string_view value = words[i].substr(equals + 1);
      const double number = ParseDouble(value).value_or(0);
      const auto whole = static_cast<int64_t>(number);
      if (words[0] == "request") {
        if (key == "prompt") {
          request.prompt_tokens = static_cast<uint64_t>(whole);
        } else if (key == "pseudo") {
          problem->pseudo_tokens.resize(static_cast<size_t>(whole));
          request.tokens_known = false;
          request.tokens_estimated = true;
          request.prompts = {problem->pseudo_tokens};
        } else {
          problem->headers = net::Headers{{key, std::string(value)}};
        }
      } else if (key == "waiting") {
        endpoint->load.waiting = number;
      } else if (key == "running") {
        endpoint->load.running = number;
      } else if (key == "kv") {
        endpoint->load.kv_usage = number;
      } else if (key == "scraped") {
        endpoint->load.at = {};
      } else if (key == "requests") {
        c.inflight.requests = whole;
      } else if (key == "tokens") {
        c.inflight.tokens = whole;
      } else if (key == "exact") {
        const auto parts = Split(value, '/');
        c.exact = true;
        c.expected_usable_blocks = static_cast<uint32_t>(*ParseInt(parts[0]));
        c.total_blocks = static_cast<uint32_t>(*ParseInt(parts[1]));
        c.expected_cached_tokens = uint64_t{64} * c.expected_usable_blocks;
      } else if (key.starts_with("custom.")) {
        endpoint->load.custom[key.substr(7)] = number;
      } else {
        endpoint->spec.labels[key] = value;
      }
    }
    if (words[0] == "request") continue;
    endpoint->id = static_cast<fleet::EndpointId>(request.candidates.size() + 1);
    c.prompt_tokens = request.prompt_tokens;
    c.endpoint = problem->endpoints.emplace_back(std::move(endpoint)).get();
    request.candidates.push_back(std::move(c));
  }
  request.headers = &problem->headers;
  return problem;
}

Result<std::unique_ptr<Scheduler>> Make(std::string type, std::string parameters,
                                        bool experimental = true) {
  SchedulerOptions options;
  options.allow_experimental = experimental;
  SchedulerSpec spec;
  spec.plugins = {{std::move(type), "p", std::move(parameters)},
                  {"precise-prefix-cache-producer", "precise", "{}"},
                  {"inflight-load-producer", "load", "{}"}};
  return Scheduler::Create(spec, options);
}

struct Case {
  const char* title;
  const char* type;
  const char* parameters;
  const char* fleet;
  const char* result;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.title;
}

class StatelessScorer : public ::testing::TestWithParam<Case> {};

TEST_P(StatelessScorer, GivesTheScoresOfTheTable) {
  const Case& c = GetParam();
  const auto scheduler = Make(c.type, c.parameters);
  ASSERT_TRUE(scheduler) << scheduler.error().message;
  const auto problem = Read(c.fleet);
  const Decision decision = (*scheduler)->Schedule(problem->request);
  std::string text;
  for (size_t i = 0; i < problem->request.candidates.size(); ++i) {
    const double score = decision.scores[0].scores[i];
    text +=
        fmt::format("{}{}={}", i == 0 ? "" : " ", problem->request.candidates[i].endpoint->name(),
                    std::isnan(score) ? "-" : fmt::format("{:.4g}", score));
  }
  EXPECT_EQ(text, c.result);
}

constexpr const char* kLowerAdaptive =
    R"({"attributeKey":"WaitingQueueSize","algorithm":{"type":"linear_lower_is_better"}})";
INSTANTIATE_TEST_SUITE_P(
    Plugins, StatelessScorer,
    ::testing::Values(
        Case{"RunningRequests", "running-requests-size-scorer", "{}",
             "a running=1\nb running=2\nc running=5", "a=1 b=0.75 c=0"},
        Case{"ActiveRequests", "active-request-scorer", R"({"inFlightLoadProducerName":"load"})",
             "a requests=0\nb requests=1\nc requests=4", "a=1 b=0.75 c=0"},
        Case{"TokenLoadCountsTheRequestsUncachedTokens", "token-load-scorer",
             R"({"queueThresholdTokens":1000})",
             "request prompt=192\na exact=3/3\nb exact=1/3 tokens=372\nc tokens=5000",
             "a=1 b=0.5 c=0"},
        Case{"TokenLoadByEstimate", "token-load-scorer", R"({"queueThresholdTokens":1000})",
             "request pseudo=200\na\nb tokens=300", "a=0.8 b=0.5"},
        Case{"TokenLoadDefault", "token-load-scorer", "{}", "a tokens=1048576\nb", "a=0.75 b=1"},
        Case{"KvCacheOldName", "kv-cache-scorer", "{}", "a kv=0.25\nb kv=1", "a=0.75 b=0"},
        Case{"AttributeAdaptiveLower", "endpoint-attribute-scorer", kLowerAdaptive,
             "a waiting=1\nb waiting=3\nc waiting=5\nd scraped=no", "a=1 b=0.5 c=0 d=0"},
        Case{"AttributeAdaptiveEqual", "endpoint-attribute-scorer", kLowerAdaptive,
             "a waiting=3\nb waiting=3\nc scraped=no", "a=1 b=1 c=0"},
        Case{"AttributeNobodyHasIt", "endpoint-attribute-scorer", kLowerAdaptive,
             "a scraped=no\nb scraped=no", "a=0 b=0"},
        Case{"AttributeFixedHigherIsClamped", "endpoint-attribute-scorer",
             R"({"attributeKey":"free","producer":"core-metrics-extractor","algorithm":{
                 "type":"linear_higher_is_better",
                 "normalization":{"fixedRange":{"min":10,"max":20}}}})",
             "a custom.free=5\nb custom.free=15\nc custom.free=99\nd", "a=0 b=0.5 c=1 d=0"},
        Case{"AttributeRunning", "endpoint-attribute-scorer",
             R"({"attributeKey":"RunningRequestsSize","algorithm":{"type":"linear_higher_is_better",
                 "normalization":{"adaptiveRange":{}}}})",
             "a running=1\nb running=2", "a=0 b=1"},
        Case{"AttributeKvUsage", "endpoint-attribute-scorer",
             R"({"attributeKey":"KVCacheUsagePercent","algorithm":{"type":"linear_lower_is_better",
                 "normalization":{"fixedRange":{"min":0,"max":1}}}})",
             "a kv=0.25\nb kv=0.9", "a=0.75 b=0.1"},
        Case{"HeaderLabel", "header-label-affinity-scorer",
             R"({"headerName":"x-tier","labelKey":"tier"})",
             "request X-Tier=gold\na tier=gold\nb tier=silver\nc", "a=1 b=0 c=0"},
        Case{"HeaderLabelWithoutHeader", "header-label-affinity-scorer",
             R"({"headerName":"x-tier","labelKey":"tier"})", "a tier=gold\nb", "a=0 b=0"},
        // a: width 0. b: 0.3 + 0.7 * (0.7 / 1.1 + 0.3 * 0.5). c: 0.3 / 1.5. d: 0.3 / 2.
        Case{"ContextLength", "context-length-aware", "{}",
             "request prompt=500\na llm-d.ai/context-length-range=500-500\n"
             "b llm-d.ai/context-length-range=0-1000\nc llm-d.ai/context-length-range=1000-2000\n"
             "d llm-d.ai/context-length-range=1500-2000\ne\nf llm-d.ai/context-length-range=big\n"
             "g llm-d.ai/context-length-range=9-5",
             "a=1 b=0.8505 c=0.2 d=0.15 e=0.5 f=0 g=0"},
        Case{"ContextLengthOfPseudoTokensAndOwnLabel", "context-length-aware",
             R"({"label":"range"})", "request pseudo=3000\na range=0-2000\nb range=3000-3000",
             "a=0.15 b=1"},
        Case{"ContextLengthFilters", "context-length-aware", R"({"enableFiltering":true})",
             "request prompt=10\na llm-d.ai/context-length-range=10-10\n"
             "b llm-d.ai/context-length-range=20-30\nc llm-d.ai/context-length-range=x\nd",
             "a=1 b=- c=- d=0.5"},
        Case{"PrefixByNamedProducer", "prefix-cache-scorer",
             R"({"prefixMatchInfoProducerName":"precise","matchLengthWeight":0.5,
                 "matchLengthScaleTokens":256})",
             "a exact=2/4\nb exact=8/8\nc", "a=0.375 b=1 c=0"},
        Case{"PreciseReadsItsOwn", "precise-prefix-cache-scorer", "{}", "a exact=1/4\nb exact=0/4",
             "a=0.25 b=0"}),
    [](const auto& param) { return param.param.title; });

class StatelessFilter : public ::testing::TestWithParam<Case> {};

TEST_P(StatelessFilter, KeepsTheEndpointsOfTheTable) {
  const Case& c = GetParam();
  const auto scheduler = Make(c.type, c.parameters);
  ASSERT_TRUE(scheduler) << scheduler.error().message;
  const auto problem = Read(c.fleet);
  const Decision decision = (*scheduler)->Schedule(problem->request);
  std::string kept;
  for (size_t i = 0; i < problem->request.candidates.size(); ++i) {
    if (decision.filtered_by[i].empty()) kept += problem->request.candidates[i].endpoint->name();
  }
  EXPECT_EQ(kept, c.result);
}

std::string AttributeFilter(std::string_view operation) {
  return fmt::format(
      R"({{"attribute":"WaitingQueueSize","algorithm":{{"type":"threshold","threshold":{{
         "operator":"{}","value":2}}}}}})",
      operation);
}

INSTANTIATE_TEST_SUITE_P(
    Plugins, StatelessFilter,
    ::testing::Values(
        Case{"AffinityKeepsHolders", "prefix-cache-affinity-filter", "{}",
             "a exact=8/10\nb exact=7/10\nc exact=10/10", "ac"},
        Case{"AffinityWithoutHolders", "prefix-cache-affinity-filter", "{}",
             "a exact=7/10\nb exact=0/10\nc", "abc"},
        Case{"AffinityThreshold", "prefix-cache-affinity-filter",
             R"({"affinityThreshold":0.5,"prefixMatchInfoProducerName":"precise"})",
             "a exact=5/10\nb exact=4/10", "a"},
        // 1000 tokens at 1000 tokens a second are a second.
        Case{"AffinityPenaltyReached", "prefix-cache-affinity-filter",
             R"({"maxTTFTPenaltyMs":1000,"peakPrefillThroughput":1000})",
             "a exact=9/10 tokens=1000\nb exact=0/10", "a"},
        Case{"AffinityPenaltyExceeded", "prefix-cache-affinity-filter",
             R"({"maxTTFTPenaltyMs":1000,"peakPrefillThroughput":1000})",
             "a exact=9/10 tokens=1001\nb exact=0/10\nc exact=0/10 tokens=5000", "abc"},
        Case{"AffinityBestHolderCounts", "prefix-cache-affinity-filter",
             R"({"maxTTFTPenaltyMs":1000,"peakPrefillThroughput":1000})",
             "a exact=9/10 tokens=9999\nb exact=0/10\nc exact=9/10 tokens=500", "ac"},
        Case{"AffinityDefaultPenalty", "prefix-cache-affinity-filter", "{}",
             "a exact=9/10 tokens=286705\nb exact=0/10", "ab"},
        Case{"AffinityJustBelowDefaultPenalty", "prefix-cache-affinity-filter",
             R"({"inFlightLoadProducerName":"load"})", "a exact=9/10 tokens=286703\nb exact=0/10",
             "a"},
        Case{"AffinityPenaltyOff", "prefix-cache-affinity-filter", R"({"maxTTFTPenaltyMs":0})",
             "a exact=9/10 tokens=99999999\nb exact=0/10", "a"},
        Case{"AffinityExplores", "prefix-cache-affinity-filter", R"({"explorationProbability":1})",
             "a exact=9/10\nb exact=0/10", "ab"},
        Case{"Utilization", "utilization-filter",
             R"({"conditions":[{"metric":"active-requests","maxValue":2},
                 {"metric":"running-requests","maxValue":3},{"metric":"waiting-queue","maxValue":0},
                 {"metric":"kv-cache-utilization","maxValue":0.8}]})",
             "a requests=2 running=3 kv=0.8\nb requests=3\nc running=4\nd waiting=1\ne kv=0.81",
             "a"},
        Case{"UtilizationEmpty", "utilization-filter",
             R"({"conditions":[{"metric":"waiting-queue","maxValue":0}]})",
             "a waiting=1\nb waiting=2", ""},
        Case{"UtilizationFallback", "utilization-filter",
             R"({"conditions":[{"metric":"waiting-queue","maxValue":0}],"fallbackOnEmpty":true})",
             "a waiting=1\nb waiting=2", "ab"},
        Case{"AttributeMissingFails", "endpoint-attribute-filter",
             R"({"attribute":"q","onMissing":"Fail","fallbackOnEmpty":true,"algorithm":{
                 "type":"threshold","threshold":{"operator":"LessThan","value":2}}})",
             "a custom.q=1\nb custom.q=2\nc", "a"},
        Case{"AttributeMissingPasses", "endpoint-attribute-filter",
             R"({"attribute":"q","algorithm":{"type":"threshold","threshold":{
                 "operator":"GreaterThan","value":2}}})",
             "a custom.q=1\nb custom.q=3\nc", "bc"},
        Case{"AttributeFallback", "endpoint-attribute-filter",
             R"({"attribute":"q","onMissing":"Fail","fallbackOnEmpty":true,"algorithm":{
                 "type":"threshold","threshold":{"operator":"LessThan","value":0}}})",
             "a custom.q=1\nb", "ab"},
        Case{"LowQueue", "low-queue-filter", "{}", "a waiting=128\nb waiting=129\nc", "ac"},
        Case{"LowQueueThreshold", "low-queue-filter", R"({"threshold":5})",
             "a waiting=5\nb waiting=6", "a"},
        // (10 - 0) / 3 = 3, rounded down.
        Case{"LeastQueue", "least-queue-filter", "{}", "a waiting=0\nb waiting=3\nc waiting=10",
             "ab"},
        Case{"LeastQueueRoundsDown", "least-queue-filter", "{}",
             "a waiting=0\nb waiting=1\nc waiting=2", "a"},
        Case{"LeastKvCache", "least-kv-cache-filter", "{}", "a kv=0.1\nb kv=0.3\nc kv=0.7", "ab"},
        Case{"LeastKvCacheEqual", "least-kv-cache-filter", "{}", "a kv=0.5\nb kv=0.5", "ab"},
        Case{"Decode", "decode-filter", "{}", "a\nb llm-d.ai/role=prefill\nc llm-d.ai/role=decode",
             "ac"}),
    [](const auto& param) { return param.param.title; });

TEST(StatelessPlugins, AttributeFilterKnowsEveryOperator) {
  const std::pair<const char*, const char*> kCases[] = {
      {"LessThan", "a"}, {"LessThanOrEqual", "ab"}, {"GreaterThan", "c"},
      {"Equal", "b"},    {"NotEqual", "ac"},        {"GreaterThanOrEqual", "bc"},
  };
  for (const auto& [operation, wanted] : kCases) {
    const auto scheduler = Make("endpoint-attribute-filter", AttributeFilter(operation));
    ASSERT_TRUE(scheduler) << scheduler.error().message;
    const auto problem = Read("a waiting=1\nb waiting=2\nc waiting=3");
    const Decision decision = (*scheduler)->Schedule(problem->request);
    std::string kept;
    for (size_t i = 0; i < 3; ++i) {
      if (decision.filtered_by[i].empty()) kept += problem->request.candidates[i].endpoint->name();
    }
    EXPECT_EQ(kept, wanted) << operation;
  }
}

TEST(StatelessPlugins, RefuseWhatCannotBeMeant) {
  const struct {
    const char* type;
    const char* parameters;
    const char* message;
  } kCases[] = {
      {"prefix-cache-affinity-filter", R"({"ttftSource":"latencyPredictor"})",
       "'latencyPredictor' is not available"},
      {"prefix-cache-affinity-filter", R"({"ttftSource":"guess"})", "'guess' is unknown"},
      {"prefix-cache-affinity-filter", R"({"affinityThreshold":1.5})", "between 0 and 1"},
      {"prefix-cache-affinity-filter", R"({"prefixMatchInfoProducerName":"nobody"})", "nobody"},
      {"endpoint-attribute-scorer", R"({"algorithm":{"type":"linear_lower_is_better"}})",
       "attributeKey: is missing"},
      {"endpoint-attribute-scorer",
       R"({"attributeKey":"","algorithm":{"type":"linear_lower_is_better"}})", "must not be empty"},
      {"endpoint-attribute-scorer",
       R"({"attributeKey":"q","algorithm":{"type":"linear_lower_is_better",
           "normalization":{"fixedRange":{"min":1,"max":1}}}})",
       "min must be less than max"},
      {"endpoint-attribute-scorer",
       R"({"attributeKey":"q","algorithm":{"type":"linear_lower_is_better",
           "normalization":{"fixedRange":{"min":1,"max":2},"adaptiveRange":{}}}})",
       "not both"},
      {"endpoint-attribute-scorer", R"({"attributeKey":"q","algorithm":{"type":"cubic"}})",
       "linear_lower_is_better, linear_higher_is_better"},
      {"header-label-affinity-scorer", R"({"headerName":"h"})", "labelKey: is missing"},
      {"header-label-affinity-scorer", R"({"headerName":"","labelKey":"l"})", "must not be empty"},
      {"utilization-filter", "{}", "conditions: is missing"},
      {"utilization-filter", R"({"conditions":[{"metric":"cpu","maxValue":1}]})",
       "'cpu' is unknown"},
      {"endpoint-attribute-filter", R"({"attribute":"q","algorithm":{"type":"threshold"}})",
       "threshold: is missing"},
      {"label-selector-filter", R"({"matchExpressions":[{"key":"a","operator":"In"}]})",
       "matchExpressions[0].values: In needs values"},
      {"label-selector-filter",
       R"({"matchExpressions":[{"key":"a","operator":"Exists","values":["b"]}]})",
       "Exists takes no values"},
  };
  for (const auto& c : kCases) {
    const auto scheduler = Make(c.type, c.parameters);
    ASSERT_FALSE(scheduler) << c.type << c.parameters;
    EXPECT_THAT(scheduler.error().message, HasSubstr(c.message)) << c.type;
  }
}

TEST(StatelessPlugins, ExperimentalOnesNeedTheFlag) {
  for (const auto& [type, parameters] :
       {std::pair{"endpoint-attribute-scorer", kLowerAdaptive},
        std::pair{"header-label-affinity-scorer", R"({"headerName":"h","labelKey":"l"})"},
        std::pair{"utilization-filter", R"({"conditions":[]})"}}) {
    EXPECT_TRUE(Make(type, parameters)) << type;
    const auto refused = Make(type, parameters, false);
    ASSERT_FALSE(refused) << type;
    EXPECT_THAT(refused.error().message, HasSubstr("--allow-experimental-plugins"));
  }
  EXPECT_TRUE(Make("context-length-aware", "{}", false));
}

TEST(StatelessPlugins, ThoseThatCountThePromptAskForEstimates) {
  for (const char* type : {"token-load-scorer", "context-length-aware"}) {
    EXPECT_TRUE((*Make(type, "{}"))->wants_estimated_tokens()) << type;
  }
  EXPECT_FALSE((*Make("queue-scorer", "{}"))->wants_estimated_tokens());
}

}  // namespace
}  // namespace warmpath::scheduling
