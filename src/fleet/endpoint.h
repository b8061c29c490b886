// Endpoints (one engine each) as configured and as last seen. Plain data.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "net/address.h"

namespace warmpath::fleet {

using EndpointId = uint32_t;  // given at first sight, never reused within a process

// What a user says about an engine: --endpoint URL[,key=value...] (contract.md).
struct EndpointSpec {
  std::string name;  // defaults to "host:port"
  net::Url url;
  std::string events;  // ZMQ address to dial for rank 0 (tcp://host:port, port + rank for others);
                       // "" in pure bind mode
  std::string replay;  // ZMQ address of the replay ROUTER for rank 0; "" when not offered
  uint16_t data_parallel = 1;
  std::map<std::string, std::string> labels;
  std::string ns = "default";  // Kubernetes' namespace, or the file's; names are unique within it
  // Tells lives of one name apart (a pod's UID and restart count); "" where nothing does. Another
  // one is a new endpoint: nothing known of the former, its blocks included, passes on to it.
  std::string incarnation{};
};

enum class Health {
  kUnknown,  // not asked yet: routed to only when nothing is healthy
  kHealthy,
  kUnhealthy,  // refuses, hangs, or answers /health with an error
};

// "unknown", "healthy", "unhealthy".
std::string_view HealthName(Health health);

struct ServedModel {
  std::string id;
  std::string root;
  std::string parent;  // base model id for a LoRA adapter, else ""
  bool is_adapter() const { return !parent.empty(); }
};

// Scraped from the engine's /metrics (sum or worst over its data-parallel ranks, as said).
struct ScrapedLoad {
  double running = 0;       // sum of vllm:num_requests_running
  double waiting = 0;       // sum of vllm:num_requests_waiting
  double kv_usage = 0;      // 0..1, mean of vllm:kv_cache_usage_perc
  uint32_t block_size = 0;  // from cache_config_info; 0 = unknown
  uint64_t kv_blocks = 0;   // num_gpu_blocks, sum over ranks; 0 = unknown
  uint16_t ranks = 0;       // data-parallel ranks that report (vLLM); 0 = unknown
  bool prefix_caching = true;
  std::vector<std::string> active_adapters;   // LoRA adapters with running requests
  std::vector<std::string> waiting_adapters;  // with waiting requests only
  uint32_t max_adapters = 0;                  // that may be active at once; 0 = unknown
  std::map<std::string, double> custom;       // of EngineMetrics::custom (engine_metrics.h), by key
  TimePoint at{};                             // when scraped; zero = never
  // In how long it is to be scraped again: figures age by so much without being old.
  Duration again{};
};

struct Endpoint {
  EndpointId id = 0;
  EndpointSpec spec;
  Health health = Health::kUnknown;
  std::string health_reason;        // why not healthy, for people
  std::vector<ServedModel> models;  // empty until learned
  std::string engine_version;
  ScrapedLoad load;
  // What a DNS name stood for when last asked, as "ip:port" ("[ip]:port"); "" while nobody answered
  // (such an endpoint is unhealthy) and for addresses that are no names. Set by the fleet.
  std::string resolved;

  const std::string& name() const { return spec.name; }
  // "ip:port" as used in scores and headers; "name:port" while a DNS name is not resolved.
  std::string address() const { return resolved.empty() ? spec.url.address.ToString() : resolved; }
  bool has_address() const;  // address() names an IP
  // Model `model_id` as served here; nullptr when it is not. "" asks for the base model.
  const ServedModel* FindModel(std::string_view model_id) const;
};

// One consistent view of all endpoints; immutable.
struct Snapshot {
  std::vector<std::shared_ptr<const Endpoint>> endpoints;
  std::shared_ptr<const Endpoint> Find(EndpointId id) const;
};

// Parses all --endpoint values together: defaults `events` to the host at 5557 where no other
// endpoint shares that host; refuses ambiguous hosts, duplicate names and URLs, overlapping events
// addresses, unknown keys. Errors quote the flag value. `events=none`: that engine publishes no
// events. With `bind_mode` endpoints without events= get none (their engines connect to us).
Result<std::vector<EndpointSpec>> ParseEndpoints(const std::vector<std::string>& flags,
                                                 bool bind_mode);

// Start-up table for people: name, URL, state, models, block size, blocks and events address,
// aligned, one line per endpoint.
std::string DescribeTable(const Snapshot& snapshot);

}  // namespace warmpath::fleet
