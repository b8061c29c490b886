// The fleet: keeps an up-to-date view of every endpoint by asking /health, /v1/models, /version and
// /metrics on a loop of its own.
//
// Thread-safe. snapshot() is one atomic load. An engine that is late, goes away or returns needs no
// restart; subscribers are told of each change.
//
// An endpoint has traffic while we send to it (Touch) or await answers from it, for a few seconds
// after, and while its last figures speak of running or waiting requests. It is asked everything
// every `active_interval` then; otherwise only whether it is alive every `idle_interval`, and for
// its load every `idle_scrape_interval`. Traffic that begins does not wait for that: it is scraped
// at once.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "fleet/endpoint.h"
#include "fleet/engine_metrics.h"
#include "fleet/inflight.h"
#include "fleet/name_resolver.h"
#include "net/loop.h"

namespace warmpath::net {
class TlsContext;
}

namespace warmpath::fleet {

struct FleetOptions {
  Duration active_interval = std::chrono::milliseconds(200);
  Duration idle_interval = std::chrono::seconds(2);
  // Of the load of endpoints without traffic, at least; rounded up to whole idle intervals.
  Duration idle_scrape_interval = std::chrono::seconds(5);
  Duration request_timeout = std::chrono::seconds(2);
  Duration models_interval = std::chrono::seconds(10);
  int failures_to_unhealthy = 2;
  std::string api_key;                // bearer token for the engines; never logged
  std::string pool_name = "default";  // label `name` of llm-d's pool metrics
  ScrapeConfig scrape;                // which series, where
  // Figures older than that when the next were due do not enter the pool's gauges.
  Duration staleness = std::chrono::seconds(2);
  Duration gauges_interval = std::chrono::seconds(5);  // refresh of the pool's gauges
  // A healthy endpoint that answers /metrics is asked /health no more often; zero: every round.
  Duration health_interval{};
  // Rounds of questions (/metrics, and what else is due) to all endpoints together begun in any
  // second; 0: no bound. Over it endpoints are asked less often, those with traffic first.
  uint32_t max_scrapes_per_second = 500;
  Duration resolve_interval = std::chrono::seconds(30);  // of DNS names
  NameLookup lookup = SystemLookup;                      // blocks; called on threads of the fleet
  std::shared_ptr<net::TlsContext> tls{};                // of https endpoints and scrapes
  bool deprecated_metrics = true;                        // the names before llm_d_epp_ as well
};

class Fleet {
 public:
  // `loop` runs the scraping and outlives the fleet.
  Fleet(net::Loop& loop, FleetOptions options, Registry& metrics, const Clock& clock);
  ~Fleet();

  // Any thread; replaces the set of endpoints, in the snapshot before it returns. Those that stay
  // keep id and state, also with other labels; the same name with another incarnation, address
  // (also of a DNS name), events address or number of ranks is a new endpoint. Of several with one
  // name in one namespace the last counts.
  void SetEndpoints(std::vector<EndpointSpec> specs);
  std::shared_ptr<const Snapshot> snapshot() const;
  InflightLedger& inflight();

  // Called after every change of membership, health or models, on the loop. Add before Start.
  using Listener = std::function<void(const Snapshot&)>;
  void OnChange(Listener listener);

  // A request was routed there: scrape at the active interval for a while. Any thread, cheap.
  void Touch(EndpointId id);
  // The data path saw it fail (connect error): unhealthy at once, asked again soon.
  void ReportFailure(EndpointId id, const std::string& reason);

  // Changes what is published, as if it had been learned: for tests of the modules above, without
  // engines.
  void UpdateForTest(EndpointId id, const std::function<void(Endpoint&)>& change);

  // Listeners hear of the endpoints set so far once, then of changes.
  void Start();
  // Before the loop stops. No listener is called afterwards.
  void Stop();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace warmpath::fleet
