// One running router: fleet, index, events, Director, gateway and admin server wired together.
// `warmpath serve` runs one; the demo and tests run several in one process.
//
// Lifecycle: Create binds every listener and reads every file (its errors are the user's to fix),
// Start serves, Stop drains. Thread-safe after Create. Owns its threads: `threads` gateway loops,
// one control loop (scraping, admin, ticks), event threads, a small CPU pool.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

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

struct ServeOptions {
  std::vector<std::string> listen = {"127.0.0.1:8080"};
  std::vector<std::string> endpoints;  // --endpoint values (contract: URL[,key=value...])
  std::string model;                   // served model; "" = learned from the engines
  std::string tokenizer;       // directory or Hugging Face name; "" = found by the model's name
  std::string kv_events_bind;  // "" = none, unless the configuration sets one
  std::string config_file;
  std::string config_text;
  uint64_t index_memory_bytes = uint64_t{1} << 30;
  std::string metrics_host = "127.0.0.1";
  uint16_t metrics_port = 9090;
  std::optional<Duration> metrics_beat_interval;  // unset: the configuration's, else 60 s
  Duration decision_timeout = std::chrono::seconds(1);
  uint64_t max_request_body = uint64_t{64} << 20;
  bool expose_decision = false;
  std::string engine_api_key_file;
  size_t threads = 0;  // 0 = one per core
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
