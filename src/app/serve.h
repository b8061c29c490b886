// One running router: fleet, index, events, Director, gateway and admin server wired together.
// `warmpath serve` runs one; the demo and tests run several in one process.
//
// Lifecycle: Create binds every listener and reads every file (its errors are the user's to fix),
// Start serves, Stop drains. Thread-safe after Create. Owns its threads: `threads` request loops,
// one control loop (scraping, files, ticks), one for the metrics port and gRPC health, event
// threads, a small CPU pool.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/cluster.h"
#include "base/clock.h"
#include "base/result.h"

namespace warmpath::index {
class KvIndex;
}
namespace warmpath::routing {
class Director;
}
namespace warmpath::fleet {
struct Snapshot;
}

namespace warmpath::app {

// The endpoint picker: ext_proc and gRPC health (llm-d's flags, whose names these fields carry).
struct PickerOptions {
  std::string host = "0.0.0.0";
  uint16_t grpc_port = 9002;
  uint16_t grpc_health_port = 9003;
  bool secure_serving = true;
  std::string cert_path;  // "" = self-signed
  bool enable_cert_reload = false;
  std::string tls_min_version;
  std::string tls_cipher_suites;  // comma separated
  bool health_checking = false;
  bool enable_grpc_stream_metrics = false;
  bool emit_endpoint_scores = false;
  bool bypass_responses = false;
  bool disable_endpoint_subset_filter = false;
  bool conformance_test_headers = false;
  std::string grpc_max_recv_msg_size;  // "" = 4 MiB
  uint64_t max_buffered_bytes = uint64_t{512} << 20;
};

// What flags say about how engines are scraped; empty fields leave the configuration's.
struct ScrapeFlags {
  std::string queued_metric, running_metric, kv_usage_metric, lora_metric, cache_info_metric;
  std::string path;
  uint16_t port = 0;
};

struct ServeOptions {
  std::vector<std::string> listen = {"127.0.0.1:8080"};  // the gateway's; empty: none
  std::optional<PickerOptions> picker;
  std::vector<std::string> endpoints;     // --endpoint values (contract: URL[,key=value...])
  std::string endpoints_file;             // watched; beside --endpoint
  std::string policy_file;                // objectives and model rewrites; watched
  std::optional<ClusterOptions> cluster;  // endpoints from Kubernetes, instead of the above
  std::string model;                      // served model; "" = learned from the engines
  std::string tokenizer;       // directory or Hugging Face name; "" = found by the model's name
  std::string kv_events_bind;  // "" = none, unless the configuration sets one
  std::string config_file;
  std::string config_text;
  bool allow_experimental_plugins = false;
  bool llm_d_defaults = false;  // without a configuration route as llm-d's built-in default does
  std::string pool_name = "default";
  std::string pool_namespace = "default";
  ScrapeFlags scrape;
  uint32_t max_scrapes_per_second = 500;  // of all engines together; 0: no bound
  Duration refresh_metrics_interval = std::chrono::milliseconds(200);
  Duration refresh_prometheus_metrics_interval = std::chrono::seconds(5);
  Duration metrics_staleness_threshold = std::chrono::seconds(2);
  std::string metrics_cert_dir;  // TLS on the metrics port
  std::string metrics_client_ca_file;
  bool deprecated_metric_names = false;
  uint64_t index_memory_bytes = uint64_t{1} << 30;
  std::string metrics_host = "127.0.0.1";
  uint16_t metrics_port = 9090;
  std::optional<Duration> metrics_beat_interval;  // unset: the configuration's, else 60 s
  Duration decision_timeout = std::chrono::seconds(1);
  uint64_t max_request_body = uint64_t{64} << 20;
  bool expose_decision = false;
  std::string engine_api_key_file;
  std::string engine_ca_file;  // of https engines; "" = the system's
  size_t threads = 0;          // 0 = one per core
  Duration drain_timeout = std::chrono::seconds(30);
};

class ServeInstance {
 public:
  static Result<std::unique_ptr<ServeInstance>> Create(const ServeOptions& options);
  ~ServeInstance();
  ServeInstance(const ServeInstance&) = delete;
  ServeInstance& operator=(const ServeInstance&) = delete;

  void Start();
  // Stops accepting, lets requests under way end until `deadline`, then closes. Idempotent.
  void Stop(Duration deadline);

  // Bound addresses, with the ports the system picked where 0 was asked for.
  const std::vector<std::string>& gateway_urls() const;  // "http://127.0.0.1:8080"
  std::string metrics_url() const;
  uint16_t kv_events_port() const;  // 0 unless bound
  // "host:port" of ext_proc and of health; "" without a picker.
  std::string grpc_address() const;
  std::string health_address() const;
  // Health answers NOT_SERVING from now on ("liveness" excepted), the lease is given back,
  // engines that publish to us are let go, the endpoints stay as they are; everything else goes on.
  // Waits for at most two seconds.
  void BeginDrain();
  // ext_proc connections open; 0 without a picker.
  size_t grpc_connections() const;

  // Every listener bound, tokenizer loaded or declared absent, an endpoint healthy. `why_not` names
  // what is missing.
  bool Ready(std::string* why_not = nullptr) const;

  std::shared_ptr<const fleet::Snapshot> endpoints() const;
  routing::Director& director();
  const index::KvIndex& index() const;

 private:
  struct Impl;
  explicit ServeInstance(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmpath::app
