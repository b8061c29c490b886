// Plugins that remember something between requests, and those that look at headers: what they
// decide, request after request.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "scheduling/plugins/producers/approx_index.h"
#include "scheduling/scheduler.h"

namespace warmpath::scheduling {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<fleet::Endpoint> MakeEndpoint(fleet::EndpointId id) {
  auto endpoint = std::make_shared<fleet::Endpoint>();
  endpoint->id = id;
  endpoint->spec.name = std::string(1, static_cast<char>('a' + id - 1));
  endpoint->spec.url.address = {fmt::format("10.0.0.{}", id), 8000};
  return endpoint;
}

struct Fleet {
  explicit Fleet(size_t n) {
    for (size_t i = 1; i <= n; ++i) endpoints.push_back(MakeEndpoint(static_cast<uint32_t>(i)));
  }
  Request MakeRequest() const {
    Request request;
    request.model = request.target_model = "m";
    request.headers = &headers;
    for (const auto& endpoint : endpoints) {
      Candidate c;
      c.endpoint = endpoint.get();
      request.candidates.push_back(c);
    }
    return request;
  }
  std::vector<std::shared_ptr<fleet::Endpoint>> endpoints;
  net::Headers headers;
};

std::vector<kv::TokenId> Tokens(size_t n, kv::TokenId first = 0) {
  std::vector<kv::TokenId> tokens(n);
  for (size_t i = 0; i < n; ++i) tokens[i] = first + static_cast<kv::TokenId>(i);
  return tokens;
}

std::unique_ptr<Scheduler> Make(std::vector<PluginSpec> plugins, const Clock& clock = SystemClock(),
                                Registry* metrics = nullptr) {
  SchedulerOptions options;
  options.allow_experimental = true;
  options.clock = &clock;
  options.metrics = metrics;
  auto scheduler = Scheduler::Create({std::move(plugins), {}}, options);
  EXPECT_TRUE(scheduler) << scheduler.error().message;
  return std::move(*scheduler);
}

std::string ErrorOf(std::vector<PluginSpec> plugins) {
  SchedulerOptions options;
  options.allow_experimental = true;
  const auto scheduler = Scheduler::Create({std::move(plugins), {}}, options);
  return scheduler ? "created" : scheduler.error().message;
}

std::vector<double> ScoresOf(const Scheduler& scheduler, Request request) {
  return scheduler.DryRun(request).scores.at(0).scores;
}

// --- approx-prefix-cache-producer

TEST(ApproxIndex, MatchesTheLongestPrefixPerEndpoint) {
  ApproxIndex index(1000);
  const std::vector<uint64_t> chain = {11, 22, 33, 44};
  const std::vector<fleet::EndpointId> all = {1, 2, 3};
  index.Store(1, chain, 100, {});
  index.Store(2, std::span(chain).first(2), 100, {});
  EXPECT_EQ(index.Match(chain, all, {}), (std::vector<uint32_t>{4, 2, 0}));
  EXPECT_EQ(index.Match(std::vector<uint64_t>{11, 99, 33}, all, {}),
            (std::vector<uint32_t>{1, 1, 0}));
  EXPECT_EQ(index.size(), 6u);
}

TEST(ApproxIndex, KeepsTheHeadWhenAnEndpointIsFull) {
  ApproxIndex index(1000);
  const std::vector<uint64_t> chain = {1, 2, 3, 4, 5};
  index.Store(1, chain, 3, {});
  EXPECT_EQ(index.Match(chain, std::vector<fleet::EndpointId>{1}, {})[0], 3u);
  index.Store(1, std::vector<uint64_t>{9}, 3, {});
  EXPECT_EQ(index.Match(chain, std::vector<fleet::EndpointId>{1}, {})[0], 2u);
  EXPECT_EQ(index.size(), 3u);
}

TEST(ApproxIndex, StaysWithinItsBoundAndForgetsTheUnseen) {
  ApproxIndex index(64);
  std::vector<uint64_t> keys;
  for (uint64_t i = 0; i < 5000; ++i) keys.push_back(i * 0x9e3779b97f4a7c15ULL);
  for (size_t i = 0; i + 50 <= keys.size(); i += 50) {
    index.Store(static_cast<uint32_t>(i / 50 % 7), std::span(keys).subspan(i, 50), 1000, {});
    ASSERT_LE(index.size(), 64u);
  }
  const TimePoint later{std::chrono::seconds(100)};
  index.Store(1, std::vector<uint64_t>{5}, 10, later);
  index.Sweep(TimePoint(std::chrono::seconds(1)));
  EXPECT_LE(index.size(), 64u);
  EXPECT_EQ(index.Match(std::vector<uint64_t>{5}, std::vector<fleet::EndpointId>{1}, {})[0], 1u);
  index.Sweep(later + std::chrono::seconds(1));
  EXPECT_EQ(index.size(), 0u);
}

TEST(ApproxIndex, AgreesWithASimpleModel) {
  ApproxIndex index(1 << 20);
  std::vector<std::vector<uint64_t>> held(4);  // newest last
  uint64_t state = 1;
  for (int step = 0; step < 3000; ++step) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    const uint32_t endpoint = state >> 60 & 3;
    std::vector<uint64_t> chain;
    for (uint64_t i = 0; i < (state >> 40 & 7) + 1; ++i) {
      chain.push_back(((state >> 50 & 15) * 16 + i) * 0x9e3779b97f4a7c15ULL);
    }
    index.Store(endpoint, chain, 20, {});
    for (size_t i = chain.size(); i-- > 0;) {
      std::erase(held[endpoint], chain[i]);
      held[endpoint].push_back(chain[i]);
      if (held[endpoint].size() > 20) held[endpoint].erase(held[endpoint].begin());
    }
    const auto matched = index.Match(chain, std::vector<fleet::EndpointId>{0, 1, 2, 3}, {});
    for (size_t e = 0; e < held.size(); ++e) {
      uint32_t expected = 0;
      while (expected < chain.size() && std::count(held[e].begin(), held[e].end(), chain[expected]))
        ++expected;
      ASSERT_EQ(matched[e], expected);
    }
  }
}

constexpr const char* kPlain = R"({"autoTune":false,"blockSizeTokens":16})";
constexpr const char* kByName = R"({"prefixMatchInfoProducerName":"approx"})";

std::vector<PluginSpec> Approx(const char* parameters) {
  return {{"prefix-cache-scorer", "", kByName},
          {"approx-prefix-cache-producer", "approx", parameters}};
}

TEST(ApproxPrefix, RemembersWhereAPromptWentWithItsLastPartialBlock) {
  const auto scheduler = Make(Approx(kPlain));
  EXPECT_TRUE(scheduler->wants_estimated_tokens());
  const Fleet fleet(3);
  const auto prompt = Tokens(40);  // blocks of 16, 16, 8
  Request request = fleet.MakeRequest();
  request.prompts = {prompt};
  EXPECT_EQ(ScoresOf(*scheduler, request), (std::vector<double>{0, 0, 0}));
  const size_t pick = scheduler->Schedule(request).picked.front();
  EXPECT_EQ(ScoresOf(*scheduler, request)[pick], 1.0);
  const auto longer = Tokens(64);
  request.prompts = {longer};  // the partial block is another now
  EXPECT_EQ(ScoresOf(*scheduler, request)[pick], 0.5);
  Request other = request;
  other.cache_salt = "s";
  EXPECT_EQ(ScoresOf(*scheduler, other)[pick], 0.0);
  other = request;
  other.target_model = "adapter";
  EXPECT_EQ(ScoresOf(*scheduler, other)[pick], 0.0);
  other = request;
  other.tokens_estimated = true;
  EXPECT_EQ(ScoresOf(*scheduler, other)[pick], 0.0);
}

TEST(ApproxPrefix, TunedBlocksAreAtLeast64AndFollowTheEngine) {
  const auto scheduler = Make(Approx("{}"));
  const Fleet fleet(1);
  const auto prompt = Tokens(300);
  Request request = fleet.MakeRequest();
  request.prompts = {prompt};
  scheduler->DryRun(request);
  EXPECT_EQ(request.candidates[0].produced[0].block_size, 64u);
  EXPECT_EQ(request.candidates[0].produced[0].total_blocks, 5u);
  fleet.endpoints[0]->load.block_size = 128;
  scheduler->DryRun(request);
  EXPECT_EQ(request.candidates[0].produced[0].total_blocks, 3u);
}

TEST(ApproxPrefix, LooksAtNoMoreThanConfigured) {
  struct {
    const char* parameters;
    uint32_t blocks;
  } const cases[] = {
      {R"({"autoTune":false})", 63},
      {R"({"autoTune":false,"maxPrefixTokensToMatch":160,"maxPrefixBlocksToMatch":5})", 10},
      {R"({"autoTune":false,"maxPrefixTokensToMatch":0,"maxPrefixBlocksToMatch":5})", 5},
      {R"({"autoTune":false,"maxPrefixTokensToMatch":0,"maxPrefixBlocksToMatch":0})", 63},
  };
  const Fleet fleet(1);
  const auto prompt = Tokens(1000);
  for (const auto& c : cases) {
    Request request = fleet.MakeRequest();
    request.prompts = {prompt};
    Make(Approx(c.parameters))->DryRun(request);
    EXPECT_EQ(request.candidates[0].produced[0].total_blocks, c.blocks) << c.parameters;
  }
}

TEST(ApproxPrefix, MadeByDefaultItServesOnlyEndpointsWithoutEvents) {
  const auto scheduler = Make({{"prefix-cache-scorer", "", "{}"}});
  EXPECT_TRUE(scheduler->wants_estimated_tokens());
  const Fleet fleet(2);
  const auto prompt = Tokens(128);
  Request request = fleet.MakeRequest();
  request.prompts = {prompt};
  request.candidates[0].exact = true;
  request.candidates[0].expected_usable_blocks = 1;
  request.candidates[0].total_blocks = 4;
  request.candidates[0].block_size = 32;
  EXPECT_EQ(ScoresOf(*scheduler, request), (std::vector<double>{0.25, 0}));
  Request only_other = request;
  only_other.candidates.erase(only_other.candidates.begin());
  scheduler->Schedule(only_other);
  EXPECT_EQ(ScoresOf(*scheduler, request), (std::vector<double>{0.25, 1}));
}

TEST(ApproxPrefix, CountsItsHitsAndSize) {
  Registry metrics;
  const auto scheduler = Make(Approx(kPlain), SystemClock(), &metrics);
  const Fleet fleet(1);
  const auto prompt = Tokens(32);
  Request request = fleet.MakeRequest();
  request.prompts = {prompt};
  scheduler->Schedule(request);
  scheduler->Schedule(request);
  const std::string text = metrics.Render();
  EXPECT_THAT(text, HasSubstr("llm_d_epp_prefix_indexer_size{plugin_name=\"approx\",plugin_type="
                              "\"approx-prefix-cache-producer\"} 2"));
  EXPECT_THAT(text, HasSubstr("llm_d_epp_prefix_indexer_hit_bytes_sum"));
  EXPECT_THAT(text, HasSubstr("llm_d_epp_plugin_duration_seconds_count{extension_point="
                              "\"DataProducer\""));
}

TEST(ApproxPrefix, IsSharedByThreads) {
  const auto scheduler = Make(Approx(kPlain));
  const Fleet fleet(4);
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 300; ++i) {
        const auto prompt = Tokens(400, static_cast<kv::TokenId>((i * 3 + t) % 50 * 100));
        Request request = fleet.MakeRequest();
        request.prompts = {prompt};
        scheduler->Schedule(request);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

// --- no-hit-lru-scorer

TEST(NoHitLru, TurnsColdPromptsRoundAndLeavesWarmOnesAlone) {
  const auto scheduler = Make({{"no-hit-lru-scorer", "", "{}"}});
  const Fleet fleet(3);
  Request cold = fleet.MakeRequest();
  EXPECT_EQ(ScoresOf(*scheduler, cold), (std::vector<double>{1, 0.5, 0}));
  EXPECT_EQ(scheduler->Schedule(cold).picked.front(), 0u);
  EXPECT_EQ(ScoresOf(*scheduler, cold), (std::vector<double>{0, 1, 0.5}));
  EXPECT_EQ(scheduler->Schedule(cold).picked.front(), 1u);
  EXPECT_EQ(ScoresOf(*scheduler, cold), (std::vector<double>{0.5, 0, 1}));
  Request warm = cold;
  warm.candidates[2].exact = true;
  warm.candidates[2].expected_usable_blocks = 1;
  warm.candidates[2].total_blocks = 2;
  EXPECT_EQ(ScoresOf(*scheduler, warm), (std::vector<double>{0.5, 0.5, 0.5}));
  EXPECT_EQ(ScoresOf(*scheduler, Fleet(1).MakeRequest()), (std::vector<double>{1}));
}

// --- session affinity

TEST(SessionAffinity, PinsByTheTokenOfTheLastAnswer) {
  const auto scheduler = Make({{"session-affinity-scorer", "", "{}"}});
  Fleet fleet(3);
  Request request = fleet.MakeRequest();
  const Decision first = scheduler->Schedule(request);
  ASSERT_EQ(first.effects.response_headers.size(), 1u);
  EXPECT_EQ(first.effects.response_headers[0].first, "x-session-token");
  fleet.headers = {{"X-Session-Token", first.effects.response_headers[0].second}};
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(scheduler->Schedule(request).picked.front(), first.picked.front());
  }
}

TEST(SessionAffinity, ATokenNamesNothingOutsideTheCandidates) {
  const auto filter = Make({{"session-affinity-filter", "", "{}"}});
  Fleet fleet(2);
  fleet.headers = {{"x-session-token", "ZGVmYXVsdC9i"}};  // default/b
  EXPECT_EQ(filter->Schedule(fleet.MakeRequest()).picked, std::vector<size_t>{1});
  for (const char* forged : {"ZGVmYXVsdC96", "b", "MTAuMC4wLjk6ODA=", "\xff"}) {
    fleet.headers = {{"x-session-token", forged}};
    EXPECT_EQ(filter->DryRun(fleet.MakeRequest()).filtered_by,
              (std::vector<std::string_view>{"", ""}));
  }
}

TEST(SessionAffinity, RemembersTheSessionUntilItIsUnusedForItsTime) {
  ManualClock clock;
  const auto scheduler = Make(
      {{"session-affinity-scorer", "",
        R"({"strategy":"session_id","sessionIdConfig":{"sources":[{"header":"x-conversation"}],)"
        R"("evictionTtlSeconds":5}})"}},
      clock);
  Fleet fleet(3);
  fleet.headers = {{"x-conversation", "c1"}};
  Request request = fleet.MakeRequest();
  EXPECT_EQ(ScoresOf(*scheduler, request), (std::vector<double>{0, 0, 0}));
  const size_t pick = scheduler->Schedule(request).picked.front();
  clock.Advance(std::chrono::seconds(4));
  EXPECT_EQ(scheduler->Schedule(request).picked.front(), pick);
  clock.Advance(std::chrono::seconds(4));
  EXPECT_EQ(ScoresOf(*scheduler, request)[pick], 1.0);
  clock.Advance(std::chrono::seconds(2));
  EXPECT_EQ(ScoresOf(*scheduler, request)[pick], 0.0);
  fleet.headers = {{"x-conversation", std::string(5000, 'x')}};
  EXPECT_TRUE(scheduler->Schedule(fleet.MakeRequest()).effects.response_headers.empty());
}

TEST(SessionAffinity, ReadsSessionsThatOtherPluginsKnow) {
  const auto scheduler =
      Make({{"session-affinity-filter", "",
             R"({"strategy":"session_id","sessionIdConfig":{"sources":[{"attribute":"SessionID"},)"
             R"({"attribute":"agent-identity"}]}})"},
            {"session-id-producer", "", R"({"cookieName":"sid"})"},
            {"agent-identity", "", "{}"}});
  Fleet fleet(3);
  for (const net::Headers& headers :
       {net::Headers{{"Cookie", "a=1; sid=s7"}}, net::Headers{{"session_id", "agent-1"}}}) {
    fleet.headers = headers;
    Request request = fleet.MakeRequest();
    const size_t pick = scheduler->Schedule(request).picked.front();
    const Decision next = scheduler->Schedule(request);
    EXPECT_EQ(next.picked, std::vector<size_t>{pick});
    EXPECT_EQ(std::count(next.filtered_by.begin(), next.filtered_by.end(), ""), 1);
    EXPECT_EQ(request.fairness_id, headers.fields()[0].first == "session_id" ? "agent-1" : "");
  }
  EXPECT_THAT(ErrorOf({{"session-affinity-filter", "",
                        R"({"strategy":"session_id","sessionIdConfig":{"sources":[{}]}})"}}),
              HasSubstr("each needs either a header or an attribute"));
  EXPECT_THAT(ErrorOf({{"session-affinity-filter", "",
                        R"({"strategy":"session_id",)"
                        R"("sessionIdConfig":{"sources":[{"attribute":"nobody"}]}})"}}),
              HasSubstr("a plugin has a dependency on the unregistered plugin nobody"));
}

// --- adapters, first-generation filters, handlers

TEST(LoraAffinity, ScoresLoadedThenFreeThenWaiting) {
  const auto scheduler = Make({{"lora-affinity-scorer", "", "{}"}});
  const Fleet fleet(4);
  fleet.endpoints[0]->load.active_adapters = {"m"};
  fleet.endpoints[1]->load.active_adapters = {"x"};
  fleet.endpoints[1]->load.max_adapters = 2;
  fleet.endpoints[2]->load.active_adapters = {"x"};
  fleet.endpoints[2]->load.waiting_adapters = {"m"};
  fleet.endpoints[2]->load.max_adapters = 2;
  fleet.endpoints[3]->load.active_adapters = {"x"};
  fleet.endpoints[3]->load.max_adapters = 1;
  EXPECT_EQ(ScoresOf(*scheduler, fleet.MakeRequest()), (std::vector<double>{1, 0.8, 0.6, 0}));
}

std::string Kept(const Scheduler& scheduler, const Fleet& fleet) {
  std::string kept;
  const Decision decision = scheduler.DryRun(fleet.MakeRequest());
  for (size_t i = 0; i < fleet.endpoints.size(); ++i) {
    if (decision.filtered_by[i].empty()) kept += fleet.endpoints[i]->name();
  }
  return kept;
}

TEST(LoraAffinity, FilterPrefersLoadedAdaptersAlmostAlways) {
  const auto always = Make({{"lora-affinity-filter", "", R"({"threshold":1})"}});
  const auto never = Make({{"lora-affinity-filter", "", R"({"threshold":0})"}});
  const Fleet fleet(3);
  EXPECT_EQ(Kept(*always, fleet), "");
  fleet.endpoints[1]->load.max_adapters = 1;
  EXPECT_EQ(Kept(*always, fleet), "b");
  fleet.endpoints[0]->load.waiting_adapters = {"m"};
  EXPECT_EQ(Kept(*always, fleet), "a");
  EXPECT_EQ(Kept(*never, fleet), "b");
}

struct TreeCase {
  const char* tree;
  const char* kept;  // of a role=decode, b role=prefill, c without a role
};

TEST(DecisionTree, FollowsSuccessAndFailure) {
  Fleet fleet(3);
  fleet.endpoints[0]->spec.labels["role"] = "decode";
  fleet.endpoints[1]->spec.labels["role"] = "prefill";
  const TreeCase cases[] = {
      {R"("current":{"pluginRef":"decode"})", "ac"},
      {R"("current":{"pluginRef":"encode"})", ""},
      {R"("current":{"pluginRef":"encode"},"nextOnFailure":{"pluginRef":"prefill"})", "b"},
      {R"("current":{"pluginRef":"decode"},"nextOnSuccess":{"pluginRef":"prefill"})", ""},
      {R"("current":{"pluginRef":"decode"},"nextOnSuccess":{"decisionTree":{"current":)"
       R"({"pluginRef":"prefill"},"nextOnFailure":{"pluginRef":"decode"}}})",
       "ac"},
      {R"("current":{"pluginRef":"encode"},"nextOnSuccessOrFailure":{"pluginRef":"decode"})", "ac"},
  };
  for (const TreeCase& c : cases) {
    SchedulerSpec spec;
    spec.plugins = {{"decision-tree-filter", "tree", fmt::format("{{{}}}", c.tree)},
                    {"decode-filter", "decode", "{}"},
                    {"prefill-filter", "prefill", "{}"},
                    {"encode-filter", "encode", "{}"}};
    spec.profiles = {{"p", {{"tree"}}}};
    const auto scheduler = Scheduler::Create(spec);
    ASSERT_TRUE(scheduler) << scheduler.error().message;
    EXPECT_EQ(Kept(**scheduler, fleet), c.kept) << c.tree;
  }
}

TEST(DecisionTree, RefusesWhatIsNoTree) {
  const auto error = [](const char* parameters) {
    return ErrorOf({{"decision-tree-filter", "t", parameters}, {"queue-scorer", "q", "{}"}});
  };
  EXPECT_THAT(error("{}"), HasSubstr("current: is missing"));
  EXPECT_THAT(error(R"({"current":{"pluginRef":"q"}})"), HasSubstr("current: 'q' is no filter"));
  EXPECT_THAT(error(R"({"current":{}})"), HasSubstr("needs either a pluginRef or a decisionTree"));
  EXPECT_THAT(error(R"({"current":{"pluginRef":"t"}})"),
              HasSubstr("plugins refer to each other in a cycle: t -> t"));
  EXPECT_THAT(error(R"({"current":{"pluginRef":"nope"}})"),
              HasSubstr("a plugin has a dependency on the unregistered plugin nope"));
  std::string deep = R"({"pluginRef":"q"})";
  for (int i = 0; i < 27; ++i) {
    deep.insert(0, R"({"decisionTree":{"current":)");
    deep += "}}";
  }
  EXPECT_THAT(error((R"({"current":)" + deep + "}").c_str()), HasSubstr("is no filter"));
}

TEST(HeaderTestingFilter, KeepsTheEndpointsTheHeaderNames) {
  const auto scheduler = Make({{"header-based-testing-filter", "", "{}"}});
  Fleet fleet(3);
  EXPECT_EQ(Kept(*scheduler, fleet), "abc");
  fleet.headers = {{"test-epp-endpoint-selection", "10.0.0.1, 10.0.0.3:8000,10.0.0.2:9,10.9.9.9"}};
  EXPECT_EQ(Kept(*scheduler, fleet), "ac");
}

TEST(DataParallelHandler, SendsToThePrimaryPortAndNamesTheRank) {
  const auto scheduler = Make({{"data-parallel-profile-handler", "", R"({"primaryPort":9000})"}});
  Fleet fleet(1);
  fleet.endpoints[0]->spec.url.address = {"::1", 8002};
  const PickEffects effects = scheduler->Schedule(fleet.MakeRequest()).effects;
  EXPECT_EQ(effects.destination, "[::1]:9000");
  ASSERT_EQ(effects.request_headers.size(), 1u);
  EXPECT_EQ(effects.request_headers[0].first, "x-data-parallel-host-port");
  EXPECT_EQ(effects.request_headers[0].second, "[::1]:8002");

  fleet.endpoints[0]->spec.url.address = {"engine.example", 8002};
  fleet.endpoints[0]->resolved = "10.0.0.7:8002";
  const PickEffects named = scheduler->Schedule(fleet.MakeRequest()).effects;
  EXPECT_EQ(named.destination, "10.0.0.7:9000") << "proxies are told addresses, not names";
  EXPECT_EQ(named.request_headers[0].second, "10.0.0.7:8002");
}

// --- detectors

struct DetectorCase {
  const char* title;
  const char* type;
  const char* parameters;
  double waiting[2], kv[2];
  int64_t requests[2], tokens[2];
  double saturation;
  const char* kept;  // as a filter
};

TEST(Detectors, FollowTheTable) {
  ManualClock clock;
  const DetectorCase cases[] = {
      {"idle", "utilization-detector", "{}", {0, 0}, {0, 0}, {}, {}, 0, "ab"},
      {"queue", "utilization-detector", "{}", {5, 10}, {0, 0.4}, {}, {}, 1.5, "a"},
      {"kv", "utilization-detector", "{}", {0, 0}, {0.4, 0.8}, {}, {}, 0.75, "ab"},
      {"headroom",
       "utilization-detector",
       R"({"queueDepthThreshold":10,"kvCacheUtilThreshold":0.5,"headroom":0.5})",
       {15, 16},
       {0, 0},
       {},
       {},
       1.55,
       "a"},
      {"requests", "concurrency-detector", "{}", {}, {}, {50, 150}, {0, 9'000'000}, 1, "a"},
      {"tokens",
       "concurrency-detector",
       R"({"concurrencyMode":"tokens","maxTokenConcurrency":100,"headroom":1})",
       {},
       {},
       {900, 0},
       {201, 200},
       2.005,
       "b"},
      {"hybrid",
       "concurrency-detector",
       R"({"concurrencyMode":"hybrid","maxConcurrency":10,"maxTokenConcurrency":100})",
       {},
       {},
       {5, 1},
       {10, 150},
       1,
       "a"},
  };
  for (const DetectorCase& c : cases) {
    SchedulerSpec spec;
    spec.plugins = {{c.type, "d", c.parameters}};
    spec.profiles = {{"p", {{"d"}}}};
    spec.saturation_detector = "d";
    SchedulerOptions options;
    options.clock = &clock;
    const auto scheduler = Scheduler::Create(spec, options);
    ASSERT_TRUE(scheduler) << scheduler.error().message;
    const Fleet fleet(2);
    Request request = fleet.MakeRequest();
    for (size_t i = 0; i < 2; ++i) {
      fleet.endpoints[i]->load.waiting = c.waiting[i];
      fleet.endpoints[i]->load.kv_usage = c.kv[i];
      fleet.endpoints[i]->load.at = clock.Now();
      request.candidates[i].inflight.requests = c.requests[i];
      request.candidates[i].inflight.tokens = c.tokens[i];
    }
    EXPECT_NEAR((*scheduler)->Saturation(request), c.saturation, 1e-9) << c.title;
    const Decision decision = (*scheduler)->DryRun(request);
    std::string kept;
    for (size_t i = 0; i < 2; ++i) {
      if (decision.filtered_by[i].empty()) kept += fleet.endpoints[i]->name();
    }
    EXPECT_EQ(kept, c.kept) << c.title;
  }
}

TEST(Detectors, WithoutFreshFiguresAnEndpointCountsAsFull) {
  ManualClock clock;
  SchedulerOptions options;
  options.clock = &clock;
  options.scrape_interval = std::chrono::seconds(1);
  const auto scheduler = Scheduler::Create(DefaultSchedulerSpec(), options);
  const Fleet fleet(2);
  const Request request = fleet.MakeRequest();
  EXPECT_EQ((*scheduler)->Saturation(request), 1);
  fleet.endpoints[0]->load.at = clock.Now();
  EXPECT_EQ((*scheduler)->Saturation(request), 0.5);
  clock.Advance(std::chrono::milliseconds(1200));
  EXPECT_EQ((*scheduler)->Saturation(request), 0.5);
  clock.Advance(std::chrono::milliseconds(1));
  EXPECT_EQ((*scheduler)->Saturation(request), 1);
  EXPECT_EQ((*scheduler)->Saturation(Request{}), 1);
}

}  // namespace
}  // namespace warmpath::scheduling
