// The fleet from inside: what it knows of each endpoint, and the rounds of questions. Private to
// the module.
//   fleet.cc         membership and what is published
//   fleet_rounds.cc  rounds and their answers
//   fleet_names.cc   endpoints with DNS names
#pragma once

#include <atomic>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "fleet/fleet.h"
#include "fleet/metrics.h"
#include "fleet/round_queue.h"
#include "fleet/scrape.h"
#include "net/http_client.h"

namespace warmpath::fleet {

inline constexpr size_t kMaxRounds = 256;                           // under way at once
inline constexpr Duration kActiveWindow = std::chrono::seconds(5);  // after the last Touch
// After the data path reported a failure.
inline constexpr Duration kRecheckReported = std::chrono::milliseconds(100);

// One endpoint under observation.
struct Probe {
  EndpointId id = 0;
  net::Url url;
  std::string name;
  bool named = false;  // its host is a DNS name
  std::atomic<Duration::rep> touched{std::numeric_limits<Duration::rep>::min()};

  // Guarded by Impl::mutex.
  std::shared_ptr<const Endpoint> state;
  bool removed = false;
  int failures = 0;  // rounds in a row
  // ReportFailure calls; a round that began before the last one proves nothing.
  uint64_t reports = 0;

  // Loop only.
  net::Timer next;
  bool in_round = false;
  TimePoint models_at{};     // when /v1/models was last read
  TimePoint version_at{};    // when /version was last asked for
  TimePoint scraped_at{};    // when /metrics was last asked for
  bool busy = false;         // by its last figures
  TimePoint health_at{};     // when /health last answered well
  bool key_wanted = false;   // it refused us for want of a key; told once
  bool engine_told = false;  // its engine label was not understood; told once
  std::string ip;            // what its name stood for
  bool resolving = false;
  TimePoint resolve_asked{};
};

// What one round learned; filled in by the answers as they come.
struct Round {
  std::shared_ptr<Probe> probe;
  TimePoint started{};
  uint64_t reports = 0;
  std::shared_ptr<const LoadReader> reader;
  bool scrape = false;
  bool ask_models = false;
  bool ask_version = false;
  std::optional<ScrapedLoad> load;
  std::optional<std::vector<ServedModel>> models;
  std::optional<std::string> version;
};

std::shared_ptr<Probe> MakeProbe(EndpointSpec spec, EndpointId id);

struct Fleet::Impl : std::enable_shared_from_this<Fleet::Impl> {
  Impl(net::Loop& run_loop, FleetOptions fleet_options, Registry& registry, const Clock& time)
      : loop(run_loop),
        options(std::move(fleet_options)),
        clock(time),
        metrics(registry, {options.pool_name, options.staleness, options.gauges_interval,
                           options.deprecated_metrics, options.max_scrapes_per_second}),
        readers(options.scrape),
        rounds(kMaxRounds, options.max_scrapes_per_second) {}

  // ---- State, any thread

  std::shared_ptr<const Snapshot> Current() const;
  void Publish() REQUIRES(mutex);
  void Change(Probe& probe, const std::function<void(Endpoint&)>& change, bool at_once = true)
      REQUIRES(mutex);

  // On the loop.
  void PublishSoon();
  std::shared_ptr<Probe> Find(EndpointId id) const EXCLUDES(index_mutex);

  // Tells the listeners, on the loop; calls that come before that happened are one notification.
  void Notify();

  // Runs `work` on the loop unless the fleet stopped by then.
  void Post(std::function<void(Impl&)> work);

  // After `probes` changed.
  void PublishMembers() REQUIRES(mutex) EXCLUDES(index_mutex);
  void SetEndpoints(std::vector<EndpointSpec> specs) EXCLUDES(mutex, index_mutex);
  void Touch(EndpointId id);
  void ReportFailure(EndpointId id, const std::string& reason) EXCLUDES(mutex);
  void SetUnhealthy(Probe& probe, const std::string& reason) REQUIRES(mutex);

  // ---- Rounds, loop only

  void Schedule(const std::shared_ptr<Probe>& probe, Duration delay);

  // `url` leads to the endpoint; a name is replaced by what it stands for. With TLS it stays, for
  // the certificate.
  net::Url Resolved(const Probe& probe, net::Url url) const;
  void Get(const Probe& probe, const net::Url& url, const std::string& target, size_t max_body,
           std::function<void(Impl&, Result<net::HttpResponse>)> done);
  net::Url ScrapeUrl(const Probe& probe) const;

  // Now, or when its turn comes.
  void BeginRound(const std::shared_ptr<Probe>& probe) EXCLUDES(mutex);

  // Rounds are paced in the time of the loop's timers.
  void AwaitTurn();

  // Who waited for a turn.
  void BeginNext() EXCLUDES(mutex);
  void StartRound(const std::shared_ptr<Probe>& probe) EXCLUDES(mutex);
  std::shared_ptr<const LoadReader> ReaderOf(Probe& probe) REQUIRES(mutex);

  // ---- DNS names, loop only

  // Asks again where that is due. False while there is no answer: the round begins with it.
  bool NameKnown(const std::shared_ptr<Probe>& probe, bool failing) EXCLUDES(mutex);
  void NameAnswered(const std::shared_ptr<Probe>& probe, Result<std::vector<std::string>> answer)
      EXCLUDES(mutex);
  void SetAddress(const std::shared_ptr<Probe>& probe, const std::string& ip) EXCLUDES(mutex);

  // Behind a name that moved is another engine.
  void Replace(const std::shared_ptr<Probe>& old, const std::string& ip)
      EXCLUDES(mutex, index_mutex);

  // ---- Rounds' answers, loop only

  void Failed(Round& round, const std::string& reason) EXCLUDES(mutex);

  // One question after the other: one connection serves them all.
  void Healthy(const std::shared_ptr<Round>& round) EXCLUDES(mutex);
  void AskModels(const std::shared_ptr<Round>& round) EXCLUDES(mutex);
  void AskVersion(const std::shared_ptr<Round>& round) EXCLUDES(mutex);

  struct Source {
    const char* type;
    const char* extractor;
  };

  // One of the questions of a round; its failure leaves the old answer in place.
  void Ask(const std::shared_ptr<Round>& round, const net::Url& url, const std::string& target,
           size_t max_body, Source source, std::function<Status(std::string_view)> read,
           void (Impl::*then)(const std::shared_ptr<Round>&));
  void Finish(const std::shared_ptr<Round>& round) EXCLUDES(mutex);
  void EndRound(Round& round) EXCLUDES(mutex);

  bool Active(const Probe& probe) const;
  bool ScrapeDue(const Probe& probe) const;

  // Until the next scrape, as things are.
  Duration ScrapeInterval(const Probe& probe) const;

  net::Loop& loop;
  const FleetOptions options;
  const Clock& clock;
  FleetMetrics metrics;
  LoadReaders readers;  // loop only
  InflightLedger ledger;
  NameResolver resolver{options.lookup};
  std::vector<Listener> listeners;  // fixed by Start
  std::atomic<bool> running{false};
  std::atomic<bool> notify_posted{false};
  std::atomic<uint64_t> version{0};  // counts changes of membership and health

  mutable Mutex mutex;  // before index_mutex
  std::vector<std::shared_ptr<Probe>> probes GUARDED_BY(mutex);
  EndpointId next_id GUARDED_BY(mutex) = 1;
  bool started GUARDED_BY(mutex) = false;
  std::shared_ptr<const Snapshot> snapshot = std::make_shared<const Snapshot>();

  mutable SharedMutex index_mutex;
  std::unordered_map<EndpointId, std::shared_ptr<Probe>> by_id GUARDED_BY(index_mutex);

  // Loop only.
  std::unique_ptr<net::HttpClient> client;
  RoundQueue rounds;
  bool turn_pending = false;
  net::Timer turn_timer;
  bool publish_pending = false;
  net::Timer publish_timer;
};

}  // namespace warmpath::fleet
