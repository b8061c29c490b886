#include "config/endpoint_picker_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

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
  EXPECT_EQ(config->topic_filter, "kv@");
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
  EXPECT_EQ(BodyError("plugins:\n- name: q\n"), "f.yaml:4: plugins[0].type: is missing");
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
            "f.yaml:4: schedulingProfiles[0].name: is missing");
  EXPECT_EQ(BodyError("schedulingProfiles:\n- name: p\n  plugins:\n  - pluginRef: nope\n"),
            "f.yaml:6: schedulingProfiles[0].plugins[0].pluginRef: references undefined plugin "
            "'nope'; declare it under plugins");
  EXPECT_EQ(BodyError("schedulingProfiles:\n- name: p\n  plugins:\n  - weight: 1\n"),
            "f.yaml:6: schedulingProfiles[0].plugins[0].pluginRef: is missing");
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
  EXPECT_THAT(
      BodyError("requestHandler: {parsers: [{pluginRef: openai-parser}]}\n"),
      HasSubstr(
          "requestHandler.parsers[0].pluginRef: references undefined plugin 'openai-parser'"));
  EXPECT_THAT(BodyError("saturationDetector: {pluginRef: x}\n"),
              HasSubstr("saturationDetector.pluginRef: references"));
  EXPECT_THAT(
      BodyError("plugins:\n- type: prefix-cache-scorer\n  parameters: "
                "{prefixMatchInfoProducerName: nope}\n"),
      HasSubstr(
          "plugins[0].parameters.prefixMatchInfoProducerName: references undefined plugin 'nope'"));
}

TEST(EndpointPickerConfig, RefusesProfilesThatCannotRun) {
  EXPECT_THAT(
      BodyError("plugins: [{type: token-producer}]\nschedulingProfiles:\n- name: p\n  plugins:\n"
                "  - pluginRef: token-producer\n"),
      HasSubstr(
          "f.yaml:7: schedulingProfiles[0].plugins[0].pluginRef: 'token-producer' is no filter"));
  EXPECT_THAT(BodyError("schedulingProfiles: [{name: p}, {name: p}]\n"),
              HasSubstr("duplicate name 'p'"));
  EXPECT_THAT(BodyError("schedulingProfiles: [{name: p}, {name: q}]\n"),
              HasSubstr("no profile handler configured"));
  EXPECT_THAT(
      BodyError("plugins: [{type: single-profile-handler}]\nschedulingProfiles: [{name: p}, {name: "
                "q}]\n"),
      HasSubstr("f.yaml:4: schedulingProfiles: plugin 'single-profile-handler': "
                "single-profile-handler runs exactly one scheduling profile, 2 are configured"));
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
  EXPECT_THAT(config.warnings, Contains("line 3: featureGates[0]: has no effect"));
  EXPECT_THAT(config.warnings,
              Contains(HasSubstr("line 8: plugins[2].parameters.mode: matches are exact")));
  EXPECT_THAT(config.warnings,
              Contains(HasSubstr("redisConfig: has no effect: the index is in process")));
  EXPECT_THAT(config.warnings, Contains("line 15: schedulingProfiles[0].plugins[1].weight: has no "
                                        "effect: 'random-picker' is no scorer"));
  EXPECT_THAT(config.warnings,
              Contains("line 16: flowControl: has no effect: requests are not queued"));
  EXPECT_THAT(Load("plugins: [{type: queue-scorer}]\n").warnings, IsEmpty());
}

}  // namespace
}  // namespace warmpath::config
