#include "fleet/metrics.h"

#include <cmath>
#include <utility>
#include <vector>

namespace warmpath::fleet {
namespace {

constexpr char kQueueSize[] = "llm_d_epp_per_endpoint_queue_size";
constexpr char kPodQueueSize[] = "inference_pool_per_pod_queue_size";
constexpr char kHealthy[] = "warmpath_endpoint_healthy";

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

FleetMetrics::FleetMetrics(Registry& registry, std::string pool)
    : registry_(registry),
      pool_(std::move(pool)),
      poll_errors_([&registry](const std::string& source) {
        return registry.AddCounter("llm_d_epp_datalayer_poll_errors_total",
                                   "Polls of an endpoint that failed, by source.",
                                   {{"source_type", source}});
      }) {}

void FleetMetrics::Refresh(const Snapshot& snapshot) {
  MutexLock lock(mutex_);
  std::vector<double> usage;
  std::vector<double> waiting;
  std::vector<double> running;
  std::set<std::string> present;
  for (const auto& endpoint : snapshot.endpoints) {
    const bool healthy = endpoint->health == Health::kHealthy;
    present.insert(endpoint->name());
    registry_
        .AddGauge(kHealthy, "1 while the endpoint answers its health checks, else 0.",
                  {{"endpoint", endpoint->name()}})
        .Set(healthy ? 1 : 0);
    registry_
        .AddGauge(kQueueSize, "Requests waiting in the endpoint's own queue, as scraped.",
                  {{"name", pool_}, {"model_server_endpoint", endpoint->name()}})
        .Set(endpoint->load.waiting);
    registry_
        .AddGauge(kPodQueueSize, "Deprecated: llm_d_epp_per_endpoint_queue_size.",
                  {{"name", pool_}, {"model_server_pod", endpoint->name()}})
        .Set(endpoint->load.waiting);
    if (!healthy) continue;
    usage.push_back(endpoint->load.kv_usage);
    waiting.push_back(endpoint->load.waiting);
    running.push_back(endpoint->load.running);
  }
  const auto set = [this](const std::string& name, const std::string& help, double value) {
    registry_.AddGauge(name, help, {{"name", pool_}}).Set(value);
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
    set(std::string("inference_pool_average_") + kind.name,
        std::string("Deprecated: llm_d_epp_average_") + kind.name + ".", spread.mean);
  }
  set("llm_d_epp_ready_endpoints", "Endpoints that answer their health checks.",
      static_cast<double>(usage.size()));
  set("inference_pool_ready_pods", "Deprecated: llm_d_epp_ready_endpoints.",
      static_cast<double>(usage.size()));
  for (const std::string& name : shown_) {
    if (present.contains(name)) continue;
    registry_.RemoveGauge(kHealthy, {{"endpoint", name}});
    registry_.RemoveGauge(kQueueSize, {{"name", pool_}, {"model_server_endpoint", name}});
    registry_.RemoveGauge(kPodQueueSize, {{"name", pool_}, {"model_server_pod", name}});
  }
  shown_ = std::move(present);
}

}  // namespace warmpath::fleet
