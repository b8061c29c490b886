#include "fleet/metrics.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace warmpath::fleet {
namespace {

constexpr char kQueueSize[] = "llm_d_epp_per_endpoint_queue_size";
constexpr char kPodQueueSize[] = "inference_pool_per_pod_queue_size";
constexpr char kHealthy[] = "warmpath_endpoint_healthy";
constexpr char kInflightRequests[] = "llm_d_epp_inflight_requests";
constexpr char kInflightTokens[] = "llm_d_epp_inflight_tokens";
constexpr char kProducer[] = "inflight-load-producer";
constexpr double kTurnsMissed = 2;

struct Spread {
  double mean = 0;
  double deviation = 0;  // of the population
};

Spread SpreadOf(const std::vector<double>& values) {
  if (values.empty()) return {};
  double sum = 0;
  for (const double value : values) sum += value;
  const double mean = sum / static_cast<double>(values.size());
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, std::sqrt(squares / static_cast<double>(values.size()))};
}

}  // namespace

FleetMetrics::FleetMetrics(Registry& registry, FleetMetricsOptions options)
    : registry_(registry), options_(std::move(options)) {}

void FleetMetrics::CountPollError(const std::string& source) const {
  registry_
      .AddCounter("llm_d_epp_datalayer_poll_errors_total",
                  "Polls of an endpoint that failed, by source.", {{"source_type", source}})
      .Add();
}

void FleetMetrics::CountExtractError(const std::string& source,
                                     const std::string& extractor) const {
  registry_
      .AddCounter("llm_d_epp_datalayer_extract_errors_total",
                  "Answers of an endpoint that were not understood, by source and extractor.",
                  {{"source_type", source}, {"extractor_type", extractor}})
      .Add();
}

void FleetMetrics::RemoveQueue(const std::string& endpoint) {
  registry_.RemoveGauge(kQueueSize, {{"name", options_.pool}, {"model_server_endpoint", endpoint}});
  if (!options_.deprecated) return;
  registry_.RemoveGauge(kPodQueueSize, {{"name", options_.pool}, {"model_server_pod", endpoint}});
}

void FleetMetrics::Refresh(const Snapshot& snapshot, const InflightLedger& ledger, uint64_t version,
                           TimePoint now) {
  MutexLock lock(mutex_);
  SetInflight(snapshot, ledger);
  if (refreshed_ && version == version_ && now - at_ < options_.interval) return;
  refreshed_ = true;
  version_ = version;
  at_ = now;
  SetPool(snapshot, now);
}

void FleetMetrics::SetPool(const Snapshot& snapshot, TimePoint now) {
  std::vector<double> usage;
  std::vector<double> waiting;
  std::vector<double> running;
  size_t ready = 0;
  Duration staleness = options_.staleness;
  if (options_.scrapes_per_second > 0) {
    const double turns = static_cast<double>(snapshot.endpoints.size()) * kTurnsMissed;
    staleness = std::max(staleness, FromSeconds(turns / options_.scrapes_per_second));
  }
  std::set<std::string> present;
  std::set<std::string> queues;
  for (const auto& endpoint : snapshot.endpoints) {
    const bool healthy = endpoint->health == Health::kHealthy;
    const ScrapedLoad& load = endpoint->load;
    present.insert(endpoint->name());
    registry_
        .AddGauge(kHealthy, "1 while the endpoint answers its health checks, else 0.",
                  {{"endpoint", endpoint->name()}})
        .Set(healthy ? 1 : 0);
    if (healthy) ++ready;
    if (load.at == TimePoint{} || now - load.at > staleness + load.again) continue;
    queues.insert(endpoint->name());
    registry_
        .AddGauge(kQueueSize, "Requests waiting in the endpoint's own queue, as scraped.",
                  {{"name", options_.pool}, {"model_server_endpoint", endpoint->name()}})
        .Set(load.waiting);
    if (options_.deprecated) {
      registry_
          .AddGauge(kPodQueueSize, "Deprecated: llm_d_epp_per_endpoint_queue_size.",
                    {{"name", options_.pool}, {"model_server_pod", endpoint->name()}})
          .Set(load.waiting);
    }
    if (!healthy) continue;
    usage.push_back(load.kv_usage);
    waiting.push_back(load.waiting);
    running.push_back(load.running);
  }
  const auto set = [this](const std::string& name, const std::string& help, double value) {
    registry_.AddGauge(name, help, {{"name", options_.pool}}).Set(value);
  };
  const struct {
    const char* name;
    const char* what;
    const std::vector<double>& values;
  } kinds[] = {{"kv_cache_utilization", "share of KV cache in use (0..1)", usage},
               {"queue_size", "requests waiting in the endpoints' queues", waiting},
               {"running_requests", "requests running in the endpoints", running}};
  for (const auto& kind : kinds) {
    const Spread spread = SpreadOf(kind.values);
    const std::string what = std::string(kind.what) + ", over healthy endpoints.";
    set(std::string("llm_d_epp_average_") + kind.name, "Average " + what, spread.mean);
    set(std::string("llm_d_epp_std_dev_") + kind.name, "Standard deviation of " + what,
        spread.deviation);
    if (!options_.deprecated) continue;
    set(std::string("inference_pool_average_") + kind.name,
        std::string("Deprecated: llm_d_epp_average_") + kind.name + ".", spread.mean);
  }
  set("llm_d_epp_ready_endpoints", "Endpoints that answer their health checks.",
      static_cast<double>(ready));
  if (options_.deprecated) {
    set("inference_pool_ready_pods", "Deprecated: llm_d_epp_ready_endpoints.",
        static_cast<double>(ready));
  }
  for (const std::string& name : shown_) {
    if (!present.contains(name)) registry_.RemoveGauge(kHealthy, {{"endpoint", name}});
  }
  for (const std::string& name : shown_queues_) {
    if (!queues.contains(name)) RemoveQueue(name);
  }
  shown_ = std::move(present);
  shown_queues_ = std::move(queues);
}

// The ledger counts per endpoint: the labels for flow and priority are there for llm-d's dashboards
// and empty.
void FleetMetrics::SetInflight(const Snapshot& snapshot, const InflightLedger& ledger) {
  std::set<Name> present;
  for (const auto& endpoint : snapshot.endpoints) {
    const InflightLoad load = ledger.Load(endpoint->id);
    present.emplace(endpoint->spec.ns, endpoint->name());
    const auto set = [&](const char* name, const char* help, int64_t value) {
      registry_
          .AddGauge(name, help,
                    {{"endpoint_name", endpoint->name()},
                     {"namespace", endpoint->spec.ns},
                     {"producer_name", kProducer},
                     {"fairness_id", ""},
                     {"priority", ""}})
          .Set(static_cast<double>(value));
    };
    set(kInflightRequests, "Requests this process sent to the endpoint and not seen finished.",
        load.requests);
    set(kInflightTokens, "Uncached prompt tokens and expected output of those requests.",
        load.tokens);
  }
  for (const auto& [ns, name] : shown_inflight_) {
    if (present.contains({ns, name})) continue;
    for (const char* gauge : {kInflightRequests, kInflightTokens}) {
      registry_.RemoveGauge(gauge, {{"endpoint_name", name},
                                    {"namespace", ns},
                                    {"producer_name", kProducer},
                                    {"fairness_id", ""},
                                    {"priority", ""}});
    }
  }
  shown_inflight_ = std::move(present);
}

}  // namespace warmpath::fleet
