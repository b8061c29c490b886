// llm-d's types that this program does not have, each with the reason a user is given.
#include "scheduling/plugins/plugins.h"

namespace warmpath::scheduling {
namespace {

constexpr const char* kQueues = "requests are not queued: there is no flow control";
constexpr const char* kDisaggregation =
    "prefill and decode run on the same endpoint: there is no disaggregated routing";
constexpr const char* kOneProfile = "one profile decides for all requests";
constexpr const char* kLatency =
    "there is no latency predictor; expected-cost-scorer learns from observed first tokens";
constexpr const char* kMultimodal = "caches of encoded images and audio are not tracked";
constexpr const char* kTopology = "where endpoints run is not known";
constexpr const char* kMulticluster = "endpoints are those of one pool";
constexpr const char* kParser = "only OpenAI's, Anthropic's and vLLM's HTTP APIs are understood";

struct Row {
  const char* name;
  Role role;
  const char* reason;
};

constexpr Row kRows[] = {
    {"global-strict-fairness-policy", Role::kPassive, kQueues},
    {"round-robin-fairness-policy", Role::kPassive, kQueues},
    {"program-aware-fairness", Role::kPassive, kQueues},
    {"fcfs-ordering-policy", Role::kPassive, kQueues},
    {"edf-ordering-policy", Role::kPassive, kQueues},
    {"slo-deadline-ordering-policy", Role::kPassive, kQueues},
    {"static-usage-limit-policy", Role::kPassive, kQueues},
    {"priority-holdback-policy", Role::kPassive, kQueues},
    {"soft-reflective-ceiling-policy", Role::kPassive, kQueues},
    {"sheddable-eviction-filter", Role::kPassive, kQueues},
    {"priority-then-time-eviction-order-policy", Role::kPassive, kQueues},
    {"disagg-profile-handler", Role::kHandler, kDisaggregation},
    {"pd-profile-handler", Role::kHandler, kDisaggregation},
    {"disagg-headers-handler", Role::kPassive, kDisaggregation},
    {"prefill-header-handler", Role::kPassive, kDisaggregation},
    {"prefix-based-pd-decider", Role::kPassive, kDisaggregation},
    {"always-disagg-pd-decider", Role::kPassive, kDisaggregation},
    {"always-disagg-multimodal-decider", Role::kPassive, kDisaggregation},
    {"p2p-source-producer", Role::kProducer, kDisaggregation},
    {"header-profile-handler", Role::kHandler, kOneProfile},
    {"predicted-latency-producer", Role::kProducer, kLatency},
    {"latency-scorer", Role::kScorer, kLatency},
    {"latency-slo-admitter", Role::kPassive, kLatency},
    {"slo-headroom-tier-filter", Role::kFilter, kLatency},
    {"mm-embeddings-cache-producer", Role::kProducer, kMultimodal},
    {"mm-embeddings-cache-scorer", Role::kScorer, kMultimodal},
    {"topology-extractor", Role::kPassive, kTopology},
    {"topology-affinity-filter", Role::kFilter, kTopology},
    {"topology-affinity-scorer", Role::kScorer, kTopology},
    {"multicluster-approx-prefix-cache-producer", Role::kProducer, kMulticluster},
    {"multicluster-file-discovery", Role::kPassive, kMulticluster},
    {"multicluster-kv-cache-utilization-scorer", Role::kScorer, kMulticluster},
    {"multicluster-metrics-data-source", Role::kPassive, kMulticluster},
    {"multicluster-metrics-extractor", Role::kPassive, kMulticluster},
    {"multicluster-prefix-cache-scorer", Role::kScorer, kMulticluster},
    {"multicluster-queue-scorer", Role::kScorer, kMulticluster},
    {"multicluster-session-affinity-filter", Role::kFilter, kMulticluster},
    {"sglanghttp-parser", Role::kPassive, kParser},
    {"vllmgrpc-parser", Role::kPassive, kParser},
    {"vertexai-parser", Role::kPassive, kParser},
    {"burst-prefix-cache-producer", Role::kProducer, "requests are not held back to be grouped"},
    {"dcgm-data-source", Role::kPassive,
     "engines are judged by their own metrics, not by those of their GPUs"},
    {"dcgm-extractor", Role::kPassive,
     "engines are judged by their own metrics, not by those of their GPUs"},
    {"probabilistic-admitter", Role::kPassive,
     "sheddable requests are refused when the saturation detector says so, not by chance"},
    {"request-attribute-reporter", Role::kPassive, "usage is not reported through CEL expressions"},
    {"disaggregatedset-rollout-screener", Role::kPassive,
     "revisions of a rollout are not told apart"},
    {"destination-endpoint-served-verifier", Role::kPassive,
     "use the flag --conformance-test-headers"},
};

}  // namespace

std::vector<PluginType> RefusedTypes() {
  std::vector<PluginType> types;
  for (const Row& row : kRows) {
    PluginType& type = types.emplace_back();
    type.name = row.name;
    type.role = row.role;
    type.refused = row.reason;
  }
  return types;
}

}  // namespace warmpath::scheduling
