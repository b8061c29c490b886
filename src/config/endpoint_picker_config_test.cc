#include "config/endpoint_picker_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "scheduling/plugin.h"

namespace warmpath::config {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kHead =
    "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n";  // lines 1 and 2

LoadedConfig Load(const std::string& body) {
  auto config = LoadConfigText(kHead + body, "f.yaml");
  EXPECT_TRUE(config) << config.error().message;
  return config ? std::move(*config) : LoadedConfig();
}

std::string ErrorOf(const std::string& text) {
  const auto config = LoadConfigText(text, "f.yaml");
  if (config) return "loaded";
  EXPECT_EQ(config.error().message.find('\n'), std::string::npos);
  EXPECT_EQ(config.error().code, Code::kInvalidArgument);
  return config.error().message;
}
std::string BodyError(const std::string& body) {
  return ErrorOf(kHead + body);
}

// "name*weight" of the first profile.
std::vector<std::string> Profile(const LoadedConfig& config) {
  std::vector<std::string> out;
  for (const auto& p : config.scheduler.profiles.at(0).plugins) {
    out.push_back(p.plugin + "*" + std::to_string(p.weight).substr(0, 3));
  }
  return out;
}

TEST(EndpointPickerConfig, LoadsTheFirstGuideUnchanged) {
  const auto config = LoadConfigFile(WARMPATH_SOURCE "/deploy/config/guide-v0.5.yaml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_THAT(Profile(*config), ElementsAre("prefix-cache-scorer*2.0", "kv-cache-scorer*1.0",
                                            "queue-scorer*1.0", "max-score-picker*1.0"));
  EXPECT_EQ(config->scheduler.profiles[0].name, "default");
  EXPECT_TRUE(config->legacy_cache_tracking);
  EXPECT_EQ(config->kv_events_bind, "");
  EXPECT_EQ(config->metrics_logging_interval, std::chrono::seconds(60));
  EXPECT_THAT(config->warnings, ElementsAre(HasSubstr("apiVersion: deprecated")));
}

TEST(EndpointPickerConfig, LoadsTodaysDialect) {
  const auto config = LoadConfigFile(WARMPATH_SOURCE "/deploy/config/precise-prefix.yaml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_THAT(Profile(*config), ElementsAre("decode-filter*1.0", "prefix-cache-scorer*2.0",
                                            "kv-cache-utilization-scorer*1.0", "queue-scorer*1.0",
                                            "max-score-picker*1.0"));
  EXPECT_FALSE(config->legacy_cache_tracking);
  EXPECT_EQ(config->kv_events_port, 5557);
  EXPECT_EQ(config->kv_replay_port, 0);
  EXPECT_EQ(config->kv_events_bind, "");
}

TEST(EndpointPickerConfig, LoadsTheSecondGeneration) {
  const LoadedConfig config = Load(R"(plugins:
- type: single-profile-handler
- type: precise-prefix-cache-scorer
  parameters:
    tokenProcessorConfig: {blockSize: 64}
    indexerConfig:
      tokenizersPoolConfig: {modelName: m, local: null, hf: null, uds: {socketFile: /tmp/tokenizer/tokenizer-uds.socket}}
      kvBlockIndexConfig: {metricsLoggingInterval: "1m0s"}
    kvEventsConfig: {topicFilter: "kv@", concurrency: 4, discoverPods: false, zmqEndpoint: "tcp://*:5557"}
- type: queue-scorer
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: precise-prefix-cache-scorer, weight: 3}
  - {pluginRef: queue-scorer, weight: 2}
)");
  EXPECT_EQ(config.kv_events_bind, "tcp://*:5557");
  EXPECT_EQ(config.metrics_logging_interval, std::chrono::seconds(60));
  EXPECT_THAT(Profile(config), ElementsAre("precise-prefix-cache-scorer*3.0", "queue-scorer*2.0",
                                           "max-score-picker*1.0"));
}

TEST(EndpointPickerConfig, FillsInProfileHandlerPickerNamesAndWeights) {
  const LoadedConfig config = Load(
      "plugins:\n- type: queue-scorer\n- {type: kv-cache-scorer, name: kv}\n- type: "
      "decode-filter\n");
  EXPECT_THAT(Profile(config), ElementsAre("queue-scorer*1.0", "kv*1.0", "decode-filter*1.0",
                                           "max-score-picker*1.0"));
  ASSERT_EQ(config.scheduler.plugins.size(), 5u);
  EXPECT_EQ(config.scheduler.plugins[3].type, "single-profile-handler");
}

TEST(EndpointPickerConfig, ReadsJson) {
  const auto config = LoadConfigText(
      R"({"apiVersion":"llm-d.ai/v1alpha1","kind":"EndpointPickerConfig","plugins":[{"type":"random-picker"}]})",
      "f");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_THAT(Profile(*config), ElementsAre("random-picker*1.0"));
}

TEST(EndpointPickerConfig, ReadsPortsAndZeroInterval) {
  const LoadedConfig config = Load(R"(plugins:
- type: precise-prefix-cache-producer
  parameters:
    indexerConfig: {kvBlockIndexConfig: {metricsLoggingInterval: 0}}
    kvEventsConfig: {podDiscoveryConfig: {socketPort: 5556, replaySocketPort: 5656}}
)");
  EXPECT_EQ(config.kv_events_port, 5556);
  EXPECT_EQ(config.kv_replay_port, 5656);
  EXPECT_EQ(config.metrics_logging_interval, Duration(0));
  EXPECT_EQ(Load("plugins: []\n").metrics_logging_interval, std::nullopt);
}

TEST(EndpointPickerConfig, ErrorsNameFileLinePathAndWhatIsAllowed) {
  EXPECT_EQ(
      BodyError("plugin: []\n"),
      "f.yaml:3: plugin: unknown field; allowed: apiVersion, kind, featureGates, plugins, "
      "schedulingProfiles, dataLayer, flowControl, requestHandler, saturationDetector, parser");
  EXPECT_EQ(BodyError("plugins:\n- type: queue-scorer\n  nam: q\n"),
            "f.yaml:5: plugins[0].nam: unknown field; allowed: name, type, parameters");
  EXPECT_EQ(BodyError("plugins:\n- name: q\n"),
            "f.yaml:4: plugins[0].type: plugin 'q' is missing a type");
  EXPECT_EQ(BodyError("plugins:\n- type: queue-scorers\n"),
            "f.yaml:4: plugins[0].type: plugin type 'queue-scorers' is not registered (did you "
            "mean 'queue-scorer'?)");
  EXPECT_EQ(BodyError("plugins:\n- type: something-else-entirely\n"),
            "f.yaml:4: plugins[0].type: plugin type 'something-else-entirely' is not registered");
  EXPECT_EQ(
      BodyError("plugins:\n- type: queue-scorer\n- type: kv-cache-scorer\n  name: queue-scorer\n"),
      "f.yaml:6: plugins[1].name: duplicate plugin name 'queue-scorer'; names must be unique");
  EXPECT_EQ(BodyError("plugins:\n- type: load-aware-scorer\n  parameters:\n    threshold: many\n"),
            "f.yaml:6: plugins[0].parameters.threshold: must be a number");
  EXPECT_EQ(BodyError("plugins:\n- type: prefix-cache-scorer\n  parameters:\n    indexerConfig:\n"
                      "      tokenProcessorConfig:\n        blockSise: 64\n"),
            "f.yaml:8: plugins[0].parameters.indexerConfig.tokenProcessorConfig.blockSise: unknown "
            "field; "
            "allowed: blockSizeTokens, blockSize, hashSeed, hashAlgorithm");
  EXPECT_EQ(BodyError("plugins:\n- type: prefix-cache-scorer\n  parameters:\n    indexerConfig:\n"
                      "      nope:\n        deeper: 64\n"),
            "f.yaml:7: plugins[0].parameters.indexerConfig.nope: unknown field; allowed: "
            "kvBlockIndexConfig, "
            "kvCacheBackendConfigs, prefixStoreConfig, tokenProcessorConfig, tokenizersPoolConfig");
  EXPECT_EQ(BodyError("plugins:\n- type: prefix-cache-scorer\n  parameters: {mode: guess}\n"),
            "f.yaml:5: plugins[0].parameters.mode: 'guess' is unknown; allowed: cache_tracking, "
            "estimate");
  EXPECT_EQ(BodyError("schedulingProfiles:\n- plugins: []\n"),
            "f.yaml:4: schedulingProfiles[0] is missing a name");
  EXPECT_EQ(
      BodyError("schedulingProfiles:\n- name: p\n  plugins:\n  - pluginRef: nope\n"),
      "f.yaml:6: schedulingProfiles[0].plugins[0].pluginRef: schedulingProfiles[p] references "
      "undefined plugin 'nope'; declare it under plugins");
  EXPECT_EQ(BodyError("schedulingProfiles:\n- name: p\n  plugins:\n  - weight: 1\n"),
            "f.yaml:6: schedulingProfiles[p].plugins[0] is missing a 'pluginRef'");
  EXPECT_THAT(
      BodyError("plugins:\n- type: queue-scorer\nschedulingProfiles:\n- name: p\n  plugins:\n"
                "  - pluginRef: queue-scorer\n    weight: heavy\n"),
      HasSubstr("f.yaml:9: schedulingProfiles[0].plugins[0].weight: must be a number"));
  EXPECT_EQ(BodyError("featureGates: [flowControl, sorcery]\n"),
            "f.yaml:3: featureGates[1]: feature gate 'sorcery' is unknown or unregistered; known: "
            "flowControl, "
            "haPopulateNonLeaderDatastore");
}

TEST(EndpointPickerConfig, ErrorsStayOneShortLineWhateverTheyQuote) {
  EXPECT_THAT(BodyError("plugins: [{type: \"a\\nb\\e\"}]\n"),
              HasSubstr("plugin type 'a?b?' is not registered"));
  EXPECT_LT(BodyError("plugins: [{type: " + std::string(100'000, 'x') + "}]\n").size(), 1100u);
}

TEST(EndpointPickerConfig, RefusesOtherDocuments) {
  EXPECT_EQ(ErrorOf(""), "f.yaml:1: is empty; an EndpointPickerConfig is needed");
  EXPECT_EQ(ErrorOf("- 1\n"), "f.yaml:1: must be a map");
  EXPECT_EQ(ErrorOf("kind: EndpointPickerConfig\n"), "f.yaml:1: apiVersion: is missing");
  EXPECT_EQ(ErrorOf("apiVersion: v1\nkind: Pod\n"),
            "f.yaml:1: apiVersion: 'v1' is unknown; allowed: llm-d.ai/v1alpha1, "
            "inference.networking.x-k8s.io/v1alpha1");
  EXPECT_EQ(ErrorOf("apiVersion: llm-d.ai/v1alpha1\nkind: Pod\n"),
            "f.yaml:2: kind: 'Pod' is unknown; allowed: EndpointPickerConfig");
  EXPECT_THAT(ErrorOf("apiVersion: llm-d.ai/v1alpha1\napiVersion: x\n"),
              HasSubstr("f.yaml:2: key"));
  EXPECT_THAT(ErrorOf("a: [1\n"), HasSubstr("f.yaml:"));
  EXPECT_EQ(LoadConfigFile("/no/such/file.yaml").error().code, Code::kNotFound);
  EXPECT_EQ(LoadConfigFile("/").error().code, Code::kNotFound);
}

TEST(EndpointPickerConfig, RefusesReferencesThatDangle) {
  EXPECT_THAT(
      BodyError("dataLayer:\n  sources:\n  - pluginRef: nope\n"),
      HasSubstr("f.yaml:5: dataLayer.sources[0].pluginRef: references undefined plugin 'nope'"));
  EXPECT_THAT(
      BodyError("plugins: [{type: metrics-data-source}]\ndataLayer:\n  sources:\n"
                "  - pluginRef: metrics-data-source\n    extractors:\n    - pluginRef: nope\n"),
      HasSubstr("f.yaml:8: dataLayer.sources[0].extractors[0].pluginRef: references undefined"));
  EXPECT_THAT(BodyError("requestHandler: {parsers: [{pluginRef: openai-parser}]}\n"),
              HasSubstr("requestHandler.parsers[0].pluginRef: parser references undefined plugin "
                        "'openai-parser'"));
  EXPECT_THAT(
      BodyError("saturationDetector: {pluginRef: x}\n"),
      HasSubstr(
          "saturationDetector.pluginRef: saturation detector references undefined plugin 'x'"));
  EXPECT_THAT(
      BodyError("plugins:\n- type: prefix-cache-scorer\n  parameters: "
                "{prefixMatchInfoProducerName: nope}\n"),
      HasSubstr(
          "plugins[0].parameters.prefixMatchInfoProducerName: a plugin has a dependency on the "
          "unregistered plugin nope"));
}

TEST(EndpointPickerConfig, RefusesProfilesThatCannotRun) {
  EXPECT_THAT(
      BodyError("plugins: [{type: token-producer}]\nschedulingProfiles:\n- name: p\n  plugins:\n"
                "  - pluginRef: token-producer\n"),
      HasSubstr(
          "f.yaml:7: schedulingProfiles[0].plugins[0].pluginRef: 'token-producer' is no filter"));
  EXPECT_THAT(BodyError("schedulingProfiles: [{name: p}, {name: p}]\n"),
              HasSubstr("f.yaml:3: schedulingProfiles[1] has duplicate name 'p'"));
  EXPECT_THAT(BodyError("schedulingProfiles: [{name: p}, {name: q}]\n"),
              HasSubstr("no profile handler configured"));
  EXPECT_THAT(
      BodyError("plugins: [{type: single-profile-handler}]\nschedulingProfiles: [{name: p}, {name: "
                "q}]\n"),
      HasSubstr("f.yaml:4: schedulingProfiles: SingleProfileHandler cannot support multiple "
                "scheduling profiles"));
  EXPECT_THAT(BodyError("plugins: [{type: random-picker}, {type: max-score-picker}]\n"),
              HasSubstr("already have a registered picker plugin 'random-picker'"));
}

TEST(EndpointPickerConfig, RefusesBadEventAddresses) {
  const std::string head =
      "plugins:\n- type: precise-prefix-cache-producer\n  parameters:\n    kvEventsConfig:\n";
  EXPECT_THAT(BodyError(head + "      zmqEndpoint: 5557\n"),
              HasSubstr("zmqEndpoint: must be a string"));
  EXPECT_EQ(BodyError(head + "      zmqEndpoint: ipc://x\n"),
            "f.yaml:7: plugins[0].parameters.kvEventsConfig.zmqEndpoint: 'ipc://x' must read "
            "tcp://HOST:PORT or tcp://*:PORT");
  EXPECT_THAT(BodyError(head + "      podDiscoveryConfig: {socketPort: 70000}\n"),
              HasSubstr("podDiscoveryConfig.socketPort: must be a port"));
  EXPECT_THAT(BodyError(head + "      engineType: trt\n"), HasSubstr("allowed: , vllm, sglang"));
}

TEST(EndpointPickerConfig, SaysWhatHasNoEffect) {
  const LoadedConfig config = Load(R"(featureGates: [flowControl]
plugins:
- type: queue-scorer
- type: random-picker
- type: prefix-cache-scorer
  parameters: {mode: estimate, indexerConfig: {kvBlockIndexConfig: {redisConfig: {address: "redis://r"}}}}
- type: utilization-detector
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: queue-scorer
  - pluginRef: random-picker
    weight: 2
flowControl: {maxBytes: 1Gi, saturationDetector: {pluginRef: utilization-detector}}
)");
  EXPECT_THAT(config.warnings,
              Contains("line 3: featureGates: flowControl has no effect: requests are not queued; "
                       "shedding of negative priorities works"));
  EXPECT_THAT(config.warnings,
              Contains(HasSubstr("redisConfig: has no effect: the index is in process")));
  EXPECT_THAT(config.warnings, Contains("line 15: schedulingProfiles[0].plugins[1].weight: has no "
                                        "effect: 'random-picker' is no scorer"));
  EXPECT_EQ(config.scheduler.saturation_detector, "utilization-detector");
  EXPECT_THAT(Load("plugins: [{type: queue-scorer}]\n").warnings, IsEmpty());
}

TEST(EndpointPickerConfig, LoadsTheGuidesOfEveryGeneration) {
  for (const char* name : {"guide-v1.2.yaml", "guide-router.yaml", "guide-router-scorers.yaml",
                           "chart-v0.5.1-default.yaml", "chart-v0.5.1-plugins-v2.yaml"}) {
    const auto config = LoadConfigFile(std::string(WARMPATH_SOURCE "/deploy/config/") + name);
    EXPECT_TRUE(config) << config.error().message;
  }
}

TEST(EndpointPickerConfig, LoadsTheDefaultOfTheOldChart) {
  const auto config = LoadConfigFile(WARMPATH_SOURCE "/deploy/config/chart-v0.5.1-default.yaml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_THAT(Profile(*config), ElementsAre("low-latency-filter*1.0", "random-picker*1.0"));
  EXPECT_FALSE(config->legacy_cache_tracking);
}

TEST(EndpointPickerConfig, LoadsTheSecondFileOfTheOldChart) {
  const auto config = LoadConfigFile(WARMPATH_SOURCE "/deploy/config/chart-v0.5.1-plugins-v2.yaml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_THAT(Profile(*config), ElementsAre("queue-scorer*1.0", "kv-cache-scorer*1.0",
                                            "prefix-cache-scorer*1.0", "max-score-picker*1.0"));
}

TEST(EndpointPickerConfig, LoadsTheGuideWithTheTokenizerSidecar) {
  const auto config = LoadConfigFile(WARMPATH_SOURCE "/deploy/config/guide-v1.2.yaml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->kv_events_bind, "tcp://*:5557");
  EXPECT_THAT(config->warnings,
              Contains(HasSubstr("indexerConfig.tokenizersPoolConfig: deprecated")));
}

TEST(EndpointPickerConfig, LoadsTheNewestGuide) {
  const auto config = LoadConfigFile(WARMPATH_SOURCE "/deploy/config/guide-router.yaml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->kv_events_port, 5556);
  EXPECT_TRUE(config->speculative_indexing);
  EXPECT_THAT(Profile(*config), ElementsAre("prefix-cache-affinity-filter*1.0",
                                            "token-load-scorer*1.0", "max-score-picker*1.0"));
}

TEST(EndpointPickerConfig, TheDefaultOfEppIsLlmDs) {
  const LoadedConfig config = DefaultEppConfig();
  EXPECT_THAT(Profile(config), ElementsAre("queue-scorer*2.0", "kv-cache-utilization-scorer*2.0",
                                           "prefix-cache-scorer*3.0", "max-score-picker*1.0"));
  EXPECT_TRUE(config.parse_openai);
  EXPECT_THAT(config.warnings, IsEmpty());
}

TEST(EndpointPickerConfig, TheOldDialectWarnsOfUnknownFields) {
  const std::string old =
      "apiVersion: inference.networking.x-k8s.io/v1alpha1\n"
      "kind: EndpointPickerConfig\n";
  const std::string body =
      "plugins:\n- type: prefix-cache-scorer\n  parameters:\n    mode: cache_tracking\n"
      "    indexerConfig: {nope: {deep: 1}}\n    kvEventsConfig: {topics: [a]}\n  extra: 1\n"
      "something: else\n";
  const auto config = LoadConfigText(old + body, "f.yaml");
  ASSERT_TRUE(config) << config.error().message;
  for (const char* field :
       {"line 9: plugins[0].extra: unknown field", "line 10: something: unknown field",
        "line 7: plugins[0].parameters.indexerConfig.nope: unknown field",
        "line 8: plugins[0].parameters.kvEventsConfig.topics: unknown field"}) {
    EXPECT_THAT(config->warnings, Contains(HasSubstr(field)));
  }
  // Wrong values stay errors, and so does everything in other dialects.
  EXPECT_THAT(ErrorOf(old + "plugins:\n- type: prefix-cache-scorer\n  parameters: {mode: guess}\n"),
              HasSubstr("f.yaml:5: plugins[0].parameters.mode: 'guess' is unknown"));
  EXPECT_THAT(BodyError(body), HasSubstr("unknown field"));
  EXPECT_THAT(ErrorOf(old + "plugins: [{type: queue-scorer, extra: 1}]\n"),
              HasSubstr("f.yaml:3: plugins[0].extra: unknown field"));
  std::string many = old + "plugins: [{type: prefix-cache-scorer, parameters: {mode: estimate}}]\n";
  for (int i = 0; i < 300; ++i) many += "x" + std::to_string(i) + ": 1\n";
  EXPECT_THAT(ErrorOf(many), HasSubstr("unknown field; allowed"));
}

TEST(EndpointPickerConfig, ReadsFeatureGates) {
  EXPECT_THAT(
      Load("featureGates: [flowControl=false, haPopulateNonLeaderDatastore=true]\n").warnings,
      IsEmpty());
  EXPECT_EQ(BodyError("featureGates: [flowControl=maybe]\n"),
            "f.yaml:3: featureGates[0]: 'maybe' must be true or false");
  EXPECT_THAT(BodyError("featureGates: [\"flowControl=\"]\n"), HasSubstr("must be true or false"));
}

TEST(EndpointPickerConfig, ExperimentalPluginsNeedTheFlag) {
  std::string experimental;
  for (const auto* type : scheduling::AllPluginTypes()) {
    if (type->experimental && type->refused.empty()) experimental = type->name;
  }
  if (experimental.empty()) GTEST_SKIP() << "no experimental scorer";
  const std::string text =
      std::string(kHead) + "plugins: [{type: " + experimental + ", name: e}]\n";
  EXPECT_EQ(ErrorOf(text), "f.yaml:3: plugins[0].type: plugin 'e' (type: '" + experimental +
                               "') has Alpha stability level, but command line flag "
                               "--allow-experimental-plugins is not set");
  const auto config = LoadConfigText(text, "f.yaml", {.allow_experimental = true});
  EXPECT_TRUE(config || config.error().message.find("Alpha") == std::string::npos);
}

TEST(EndpointPickerConfig, RefusedPluginsGiveTheirReason) {
  for (const auto* type : scheduling::AllPluginTypes()) {
    if (type->refused.empty()) continue;
    EXPECT_THAT(BodyError("plugins: [{type: " + type->name + "}]\n"),
                HasSubstr("f.yaml:3: plugins[0].type: plugin type '" + type->name +
                          "' is not supported: "));
  }
}

TEST(EndpointPickerConfig, ReadsDiscoveryFromAFile) {
  const std::string plugin =
      "plugins:\n- type: file-discovery\n  parameters: {path: /etc/endpoints.yaml, watchFile: "
      "true}\n";
  const LoadedConfig config =
      Load(plugin + "dataLayer: {discovery: {pluginRef: file-discovery}}\n");
  EXPECT_EQ(config.discovery_file, "/etc/endpoints.yaml");
  EXPECT_TRUE(config.watch_discovery_file);
  EXPECT_EQ(Load(plugin).discovery_file, "");
  EXPECT_THAT(BodyError("plugins: [{type: queue-scorer}]\ndataLayer: {discovery: {pluginRef: "
                        "queue-scorer}}\n"),
              HasSubstr("f.yaml:4: dataLayer.discovery.pluginRef: 'queue-scorer' (type: "
                        "queue-scorer) discovers no endpoints"));
  EXPECT_THAT(BodyError("dataLayer:\n  peerDiscovery: {pluginRef: x}\n"),
              HasSubstr("f.yaml:4: dataLayer.peerDiscovery: is not supported"));
}

TEST(EndpointPickerConfig, SourcesMustBeSources) {
  EXPECT_EQ(BodyError("plugins: [{type: queue-scorer}]\ndataLayer:\n  sources:\n"
                      "  - pluginRef: queue-scorer\n"),
            "f.yaml:6: dataLayer.sources[0].pluginRef: the plugin queue-scorer is not a "
            "fwkdl.DataSource");
}

TEST(EndpointPickerConfig, ReadsScraping) {
  const LoadedConfig config = Load(R"(plugins:
- type: metrics-data-source
  parameters: {path: /stats, port: 9100, interval: 100ms, scheme: https}
- type: core-metrics-extractor
  parameters:
    engineLabelKey: engine
    defaultEngine: mine
    engineConfigs:
    - name: mine
      queuedRequestsSpec: q
      runningRequestsSpec: 'r{state=running}'
      cacheInfoSpec: info
      cacheBlockSizeLabelName: size
      customMetrics:
      - {attributeKey: temperature, metricSpec: 'temp{gpu=0}'}
)");
  EXPECT_EQ(config.scrape.path, "/stats");
  EXPECT_EQ(config.scrape.port, 9100);
  EXPECT_EQ(config.scrape.scheme, "https");
  EXPECT_EQ(config.scrape_interval, std::chrono::milliseconds(100));
  EXPECT_EQ(config.scrape.engine_label, "engine");
  EXPECT_EQ(config.scrape.default_engine, "mine");
  ASSERT_EQ(config.scrape.engines.size(), 1u);
  const fleet::EngineMetrics& engine = config.scrape.engines[0];
  EXPECT_EQ(engine.queued.name, "q");
  EXPECT_EQ(engine.running.name, "r");
  EXPECT_THAT(engine.running.labels, ElementsAre(testing::Pair("state", "running")));
  EXPECT_EQ(engine.cache_block_size_label, "size");
  EXPECT_EQ(engine.custom.at("temperature").name, "temp");
}

TEST(EndpointPickerConfig, RefusesWrongScraping) {
  const std::string head =
      "plugins:\n- type: core-metrics-extractor\n  parameters:\n    engineConfigs:\n";
  EXPECT_THAT(BodyError(head + "    - {name: a, queuedRequestsSpec: 'q{'}\n"),
              HasSubstr("f.yaml:7: plugins[0].parameters.engineConfigs[0].queuedRequestsSpec: "));
  EXPECT_THAT(
      BodyError(head + "    - {name: a, queuedSpec: q}\n"),
      HasSubstr("f.yaml:7: plugins[0].parameters.engineConfigs[0].queuedSpec: unknown field"));
  EXPECT_THAT(
      BodyError(head + "    - {name: a}\n    - {name: a}\n"),
      HasSubstr("f.yaml:8: plugins[0].parameters.engineConfigs[1].name: duplicate engine 'a'"));
  EXPECT_THAT(
      BodyError("plugins:\n- type: core-metrics-extractor\n  parameters: {defaultEngine: x}\n"),
      HasSubstr("f.yaml:5: plugins[0].parameters.defaultEngine: 'x' is neither built in"));
  EXPECT_THAT(BodyError("plugins:\n- type: metrics-data-source\n  parameters: {path: stats}\n"),
              HasSubstr("plugins[0].parameters.path: must start with '/'"));
  EXPECT_THAT(BodyError("plugins:\n- type: metrics-data-source\n  parameters: {port: 70000}\n"),
              HasSubstr("plugins[0].parameters.port: must be "));
}

TEST(EndpointPickerConfig, ReadsParsers) {
  const LoadedConfig none = Load("requestHandler: {parsers: []}\n");
  EXPECT_TRUE(none.parse_openai);
  EXPECT_TRUE(none.parse_vllmhttp);
  const LoadedConfig listed = Load(
      "plugins: [{type: passthrough-parser}, {type: anthropic-parser}]\n"
      "requestHandler: {parsers: [{pluginRef: passthrough-parser}, {pluginRef: "
      "anthropic-parser}]}\n");
  EXPECT_FALSE(listed.parse_openai);
  EXPECT_FALSE(listed.parse_vllmhttp);
  EXPECT_TRUE(listed.parse_passthrough);
  EXPECT_THAT(listed.warnings, Contains(HasSubstr("/v1/messages are routed by load")));
  const LoadedConfig old =
      Load("plugins: [{type: openai-parser}]\nparser: {pluginRef: openai-parser}\n");
  EXPECT_TRUE(old.parse_openai);
  EXPECT_FALSE(old.parse_vllmhttp);
  EXPECT_THAT(old.warnings, Contains(HasSubstr("line 4: parser: deprecated")));
  EXPECT_THAT(BodyError("plugins: [{type: queue-scorer}]\n"
                        "requestHandler: {parsers: [{pluginRef: queue-scorer}]}\n"),
              HasSubstr("'queue-scorer' (type: queue-scorer) is no parser"));
}

TEST(EndpointPickerConfig, ReadsTheSaturationDetector) {
  const LoadedConfig old = Load(
      "plugins: [{type: utilization-detector, name: d}]\nsaturationDetector: {pluginRef: d}\n");
  EXPECT_EQ(old.scheduler.saturation_detector, "d");
  EXPECT_THAT(old.warnings, Contains(HasSubstr("line 4: saturationDetector: deprecated")));
  EXPECT_THAT(BodyError("plugins: [{type: queue-scorer}]\n"
                        "flowControl: {saturationDetector: {pluginRef: queue-scorer}}\n"),
              HasSubstr("f.yaml:4: flowControl.saturationDetector.pluginRef: 'queue-scorer' (type: "
                        "queue-scorer) is no saturation detector"));
}

TEST(EndpointPickerConfig, FlowControlFieldsOnlyWarn) {
  const LoadedConfig config = Load(
      "flowControl: {maxBytes: 1Gi, priorityBands: [{priority: 1, maxRequests: 5k}, {priority: "
      "2}]}\n");
  EXPECT_THAT(
      config.warnings,
      ElementsAre("line 3: flowControl: only saturationDetector has an effect: requests are "
                  "not queued; shedding of negative priorities works"));
  EXPECT_THAT(
      BodyError("flowControl:\n  priorityBands:\n  - priority: 1\n  - priority: 1\n"),
      HasSubstr("f.yaml:6: flowControl.priorityBands[1].priority: duplicate priority level 1"));
  EXPECT_THAT(BodyError("flowControl: {usageLimitPolicyPluginRef: nope}\n"),
              HasSubstr("a plugin has a dependency on the unregistered plugin nope"));
}

TEST(EndpointPickerConfig, ReadsInflightLoadAndSpeculation) {
  const LoadedConfig config = Load(
      "plugins:\n- type: inflight-load-producer\n  parameters: {addEstimatedOutputTokens: true, "
      "outputRatio: 2, maxEstimatedOutputTokens: 4096, syncCrossReplicaState: true}\n"
      "- type: precise-prefix-cache-producer\n  parameters: {speculativeIndexing: false}\n");
  EXPECT_TRUE(config.add_estimated_output_tokens);
  EXPECT_EQ(config.output_ratio, 2);
  EXPECT_EQ(config.max_estimated_output_tokens, 4096u);
  EXPECT_FALSE(config.speculative_indexing);
  EXPECT_THAT(config.warnings, Contains(HasSubstr("syncCrossReplicaState: has no effect")));
  EXPECT_TRUE(Load("plugins: [{type: precise-prefix-cache-producer}]\n").speculative_indexing);
}

TEST(EndpointPickerConfig, ReadsTheEstimateOfTokens) {
  const LoadedConfig config = Load(
      "plugins:\n- type: token-producer\n  parameters: {estimate: {image: {mode: static, static: "
      "{staticToken: 99}, defaultResolution: {width: 100, height: 50}, dynamic: {factor: 512}}, "
      "video: {maxVideoTokens: 7}}}\n");
  EXPECT_TRUE(config.estimate.image_static);
  EXPECT_EQ(config.estimate.image_static_tokens, 99u);
  EXPECT_EQ(config.estimate.image_width, 100u);
  EXPECT_EQ(config.estimate.image_height, 50u);
  EXPECT_EQ(config.estimate.image_factor, 512u);
  EXPECT_THAT(config.warnings, Contains(HasSubstr("estimate.video: has no effect")));
}

TEST(EndpointPickerConfig, DecisionTreesMayNotDangle) {
  EXPECT_THAT(BodyError("plugins:\n- type: decision-tree-filter\n  parameters:\n    current:\n"
                        "      pluginRef: nope\n"),
              HasSubstr("f.yaml:7: plugins[0].parameters.current.pluginRef: a plugin has a "
                        "dependency on the unregistered plugin nope"));
}

TEST(EndpointPickerConfig, ProducersMadeByDefaultNeedNoDeclaration) {
  const LoadedConfig config = Load(
      "plugins:\n- type: prefix-cache-scorer\n  parameters: {prefixMatchInfoProducerName: "
      "approx-prefix-cache-producer}\n- type: token-load-scorer\n  parameters: "
      "{inFlightLoadProducerName: inflight-load-producer}\n");
  EXPECT_EQ(std::count_if(
                config.scheduler.plugins.begin(), config.scheduler.plugins.end(),
                [](const auto& plugin) { return plugin.type == "approx-prefix-cache-producer"; }),
            1);
}

}  // namespace
}  // namespace warmpath::config
