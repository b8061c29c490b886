#include "config/compatibility.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "scheduling/plugin.h"

namespace warmpath::config {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Every plugin type of llm-d's endpoint picker, today's and those of the v0.5 charts.
constexpr const char* kTypes[] = {
    // Producers.
    "precise-prefix-cache-producer", "approx-prefix-cache-producer",
    "multicluster-approx-prefix-cache-producer", "token-producer", "tokenizer",
    "inflight-load-producer", "p2p-source-producer", "burst-prefix-cache-producer",
    "mm-embeddings-cache-producer", "predicted-latency-producer", "session-id-producer",
    // Scorers.
    "prefix-cache-scorer", "precise-prefix-cache-scorer", "queue-scorer",
    "running-requests-size-scorer", "kv-cache-utilization-scorer", "kv-cache-scorer",
    "load-aware-scorer", "active-request-scorer", "token-load-scorer", "lora-affinity-scorer",
    "no-hit-lru-scorer", "endpoint-attribute-scorer", "header-label-affinity-scorer",
    "topology-affinity-scorer", "context-length-aware", "mm-embeddings-cache-scorer",
    "session-affinity-scorer", "multicluster-queue-scorer",
    "multicluster-kv-cache-utilization-scorer", "multicluster-prefix-cache-scorer",
    "latency-scorer",
    // Filters.
    "decode-filter", "prefill-filter", "encode-filter", "label-selector-filter",
    "by-label-selector", "by-label", "prefix-cache-affinity-filter", "slo-headroom-tier-filter",
    "utilization-filter", "endpoint-attribute-filter", "topology-affinity-filter",
    "session-affinity-filter", "multicluster-session-affinity-filter",
    "header-based-testing-filter", "low-queue-filter", "least-queue-filter",
    "least-kv-cache-filter", "lora-affinity-filter", "decision-tree-filter",
    // Pickers.
    "max-score-picker", "random-picker", "weighted-random-picker",
    // Profile handlers and what they need.
    "single-profile-handler", "disagg-profile-handler", "pd-profile-handler",
    "data-parallel-profile-handler", "header-profile-handler", "disagg-headers-handler",
    "prefill-header-handler", "prefix-based-pd-decider", "always-disagg-pd-decider",
    "always-disagg-multimodal-decider",
    // Request control.
    "agent-identity", "latency-slo-admitter", "probabilistic-admitter",
    "request-attribute-reporter", "disaggregatedset-rollout-screener",
    "destination-endpoint-served-verifier",
    // Data layer.
    "metrics-data-source", "core-metrics-extractor", "models-data-source", "models-data-extractor",
    "dcgm-data-source", "dcgm-extractor", "topology-extractor", "k8s-notification-source",
    "endpoint-notification-source", "file-discovery", "multicluster-metrics-data-source",
    "multicluster-metrics-extractor", "multicluster-file-discovery",
    // Parsers.
    "openai-parser", "anthropic-parser", "vllmhttp-parser", "sglanghttp-parser", "vllmgrpc-parser",
    "vertexai-parser", "passthrough-parser",
    // Flow control.
    "global-strict-fairness-policy", "round-robin-fairness-policy", "program-aware-fairness",
    "fcfs-ordering-policy", "edf-ordering-policy", "slo-deadline-ordering-policy",
    "static-usage-limit-policy", "priority-holdback-policy", "soft-reflective-ceiling-policy",
    "sheddable-eviction-filter", "priority-then-time-eviction-order-policy", "utilization-detector",
    "concurrency-detector"};

TEST(Compatibility, EveryPluginTypeOfLlmDIsKnownInSomeState) {
  const std::string page = PluginCompatibilityMarkdown();
  for (const char* type : kTypes) {
    EXPECT_NE(scheduling::FindPluginType(type), nullptr) << type;
    EXPECT_TRUE(page.find(std::string("| `") + type + "` | ") != std::string::npos) << type;
  }
}

TEST(Compatibility, EveryRefusalGivesAReason) {
  for (const auto* type : scheduling::AllPluginTypes()) {
    if (type->refused.empty()) continue;
    EXPECT_FALSE(type->create) << type->name;
    EXPECT_GT(type->refused.size(), 10u) << type->name;
  }
}

TEST(Compatibility, FlagsAndMetricsAreAppended) {
  const CompatibilityRow flags[] = {{"--grpc-port", "works", ""}};
  const CompatibilityRow metrics[] = {{"llm_d_epp_info", "absent", "a | b"}};
  const std::string page = CompatibilityMarkdown(flags, metrics);
  EXPECT_THAT(page, HasSubstr("\n## Flags\n\n| name | state | note |\n|---|---|---|\n"
                              "| `--grpc-port` | works |  |\n"));
  EXPECT_THAT(page, HasSubstr("| `llm_d_epp_info` | absent | a \\| b |\n"));
  EXPECT_THAT(page, HasSubstr(PluginCompatibilityMarkdown()));
  EXPECT_THAT(CompatibilityMarkdown({}, {}), Not(HasSubstr("## Flags")));
}

TEST(Compatibility, TheCommittedPageHoldsTheRegistry) {
  std::ifstream file(WARMPATH_SOURCE "/docs/llm-d-compatibility.md");
  std::stringstream page;
  page << file.rdbuf();
  EXPECT_TRUE(page.str().find(PluginCompatibilityMarkdown()) != std::string::npos)
      << "docs/llm-d-compatibility.md is out of date: write it anew with `warmpath config "
         "compatibility`";
}

}  // namespace
}  // namespace warmpath::config
