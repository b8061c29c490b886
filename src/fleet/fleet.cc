#include "fleet/fleet.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/mutex.h"
#include "fleet/metrics.h"
#include "fleet/round_queue.h"
#include "fleet/scrape.h"
#include "net/http_client.h"

namespace warmpath::fleet {
namespace {

using std::chrono::milliseconds;

constexpr Duration kActiveWindow = std::chrono::seconds(5);  // after the last Touch
constexpr Duration kRecheckReported = milliseconds(100);   // after the data path reported a failure
constexpr Duration kRecheckUnhealthy = milliseconds(500);  // at least this often while it is away
constexpr Duration kMinPause = milliseconds(10);  // between the end of a round and the next
constexpr size_t kMaxSmallBody = 64 << 10;        // /health, /version
constexpr size_t kMaxModelsBody = 4 << 20;
constexpr size_t kMaxMetricsBody = 16 << 20;
constexpr size_t kMaxReasonBytes = 300;
constexpr Duration kMinTurn = milliseconds(5);            // between turns of those that wait
constexpr Duration kReaskName = std::chrono::seconds(2);  // while it is not resolved or fails
constexpr size_t kMaxRounds = 256;                        // under way at once
// Of larger fleets what is scraped is published together, this often.
constexpr size_t kPublishAtOnce = 256;
constexpr Duration kPublishInterval = milliseconds(20);
constexpr char kMetricsSource[] = "metrics-data-source";
constexpr char kModelsSource[] = "models-data-source";

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
  std::optional<ScrapedLoad> load;
  std::optional<std::vector<ServedModel>> models;
  std::optional<std::string> version;
};

bool SameIdentity(const EndpointSpec& a, const EndpointSpec& b) {
  return a.name == b.name && a.ns == b.ns && a.incarnation == b.incarnation &&
         a.url.tls == b.url.tls && a.url.address == b.url.address &&
         a.url.base_path == b.url.base_path && a.events == b.events && a.replay == b.replay &&
         a.data_parallel == b.data_parallel;
}

bool SameModels(const std::vector<ServedModel>& a, const std::vector<ServedModel>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const ServedModel& x, const ServedModel& y) {
                      return x.id == y.id && x.root == y.root && x.parent == y.parent;
                    });
}

std::string NameKey(const EndpointSpec& spec) {
  return spec.ns + "\n" + spec.name;
}

// Of several with one name the last, in the place of the first.
std::vector<EndpointSpec> WithoutDuplicates(std::vector<EndpointSpec> specs) {
  std::vector<EndpointSpec> unique;
  unique.reserve(specs.size());
  std::unordered_map<std::string, size_t> places;
  for (EndpointSpec& spec : specs) {
    const auto [place, is_new] = places.emplace(NameKey(spec), unique.size());
    if (is_new) {
      unique.push_back(std::move(spec));
      continue;
    }
    WP_LOG(kWarn, "fleet", "endpoint given twice: the last counts", {"endpoint", spec.name},
           {"namespace", spec.ns});
    unique[place->second] = std::move(spec);
  }
  return unique;
}

std::shared_ptr<Probe> MakeProbe(EndpointSpec spec, EndpointId id) {
  auto probe = std::make_shared<Probe>();
  auto state = std::make_shared<Endpoint>();
  probe->id = state->id = id;
  probe->url = spec.url;
  probe->name = spec.name;
  state->spec = std::move(spec);
  probe->named = !state->has_address();
  probe->state = std::move(state);
  return probe;
}

}  // namespace

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

  std::shared_ptr<const Snapshot> Current() const { return std::atomic_load(&snapshot); }

  void Publish() REQUIRES(mutex) {
    auto next = std::make_shared<Snapshot>();
    next->endpoints.reserve(probes.size());
    for (const auto& probe : probes) next->endpoints.push_back(probe->state);
    std::atomic_store(&snapshot, std::shared_ptr<const Snapshot>(std::move(next)));
  }

  void Change(Probe& probe, const std::function<void(Endpoint&)>& change, bool at_once = true)
      REQUIRES(mutex) {
    auto next = std::make_shared<Endpoint>(*probe.state);
    change(*next);
    const bool health_changed = next->health != probe.state->health;
    probe.state = std::move(next);
    if (health_changed) ++version;
    if (at_once || health_changed || probes.size() <= kPublishAtOnce) {
      Publish();
    } else {
      PublishSoon();
    }
  }

  // On the loop.
  void PublishSoon() {
    if (publish_pending) return;
    publish_pending = true;
    publish_timer = loop.After(kPublishInterval, [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (!self) return;
      self->publish_pending = false;
      MutexLock lock(self->mutex);
      self->Publish();
    });
  }

  std::shared_ptr<Probe> Find(EndpointId id) const EXCLUDES(index_mutex) {
    ReaderLock lock(index_mutex);
    const auto it = by_id.find(id);
    return it == by_id.end() ? nullptr : it->second;
  }

  // Tells the listeners, on the loop; calls that come before that happened are one notification.
  void Notify() {
    if (notify_posted.exchange(true)) return;
    Post([](Impl& self) {
      self.notify_posted = false;
      const auto now = self.Current();
      for (const Listener& listener : self.listeners) listener(*now);
    });
  }

  // Runs `work` on the loop unless the fleet stopped by then.
  void Post(std::function<void(Impl&)> work) {
    loop.Post([weak = weak_from_this(), work = std::move(work)] {
      if (const auto self = weak.lock(); self && self->running) work(*self);
    });
  }

  // After `probes` changed.
  void PublishMembers() REQUIRES(mutex) EXCLUDES(index_mutex) {
    std::vector<EndpointId> ids;
    ids.reserve(probes.size());
    {
      WriterLock index_lock(index_mutex);
      by_id.clear();
      for (const auto& probe : probes) {
        by_id.emplace(probe->id, probe);
        ids.push_back(probe->id);
      }
    }
    ++version;
    Publish();
    ledger.Retain(ids);
  }

  void SetEndpoints(std::vector<EndpointSpec> specs) EXCLUDES(mutex, index_mutex) {
    specs = WithoutDuplicates(std::move(specs));
    std::vector<std::shared_ptr<Probe>> added;
    std::vector<std::shared_ptr<Probe>> removed;
    bool is_started = false;
    {
      MutexLock lock(mutex);
      std::unordered_map<std::string, std::shared_ptr<Probe>> known;
      for (const auto& probe : probes) known.emplace(NameKey(probe->state->spec), probe);
      probes.clear();
      probes.reserve(specs.size());
      for (EndpointSpec& spec : specs) {
        const auto before = known.find(NameKey(spec));
        if (before == known.end() || !SameIdentity(before->second->state->spec, spec)) {
          probes.push_back(MakeProbe(std::move(spec), next_id++));
          added.push_back(probes.back());
          continue;
        }
        const auto& probe = probes.emplace_back(std::move(before->second));
        known.erase(before);
        if (probe->state->spec.labels == spec.labels) continue;
        auto state = std::make_shared<Endpoint>(*probe->state);
        state->spec.labels = std::move(spec.labels);
        probe->state = std::move(state);
      }
      for (auto& [name, probe] : known) {
        probe->removed = true;
        removed.push_back(std::move(probe));
      }
      PublishMembers();
      is_started = started;
    }
    if (!is_started) return;
    Post([added = std::move(added), removed = std::move(removed)](Impl& self) {
      for (const auto& probe : removed) {
        probe->next.Cancel();
        self.rounds.Forget(probe->id);
      }
      for (const auto& probe : added) self.BeginRound(probe);
    });
    Notify();
  }

  void Touch(EndpointId id) {
    const auto probe = Find(id);
    if (!probe) return;
    const Duration::rep now = clock.Now().time_since_epoch().count();
    const Duration::rep before = probe->touched.exchange(now, std::memory_order_relaxed);
    // Idle until now: do not wait for the slow timer.
    if (before < now - kActiveWindow.count()) {
      Post([probe](Impl& self) { self.BeginRound(probe); });
    }
  }

  void ReportFailure(EndpointId id, const std::string& reason) EXCLUDES(mutex) {
    const auto probe = Find(id);
    if (!probe) return;
    {
      MutexLock lock(mutex);
      ++probe->reports;
      probe->failures = std::max(probe->failures, options.failures_to_unhealthy);
      SetUnhealthy(*probe, reason);
    }
    Post([probe](Impl& self) {
      if (!probe->in_round) self.Schedule(probe, kRecheckReported);
    });
  }

  void SetUnhealthy(Probe& probe, const std::string& reason) REQUIRES(mutex) {
    const bool changed = probe.state->health != Health::kUnhealthy;
    const std::string bounded = reason.substr(0, kMaxReasonBytes);
    if (!changed && probe.state->health_reason == bounded) return;
    Change(probe, [&](Endpoint& endpoint) {
      endpoint.health = Health::kUnhealthy;
      endpoint.health_reason = bounded;
    });
    if (!changed) return;
    WP_LOG(kWarn, "fleet", "endpoint is unhealthy", {"endpoint", probe.state->name()},
           {"reason", bounded});
    Notify();
  }

  // ---- Rounds, loop only

  void Schedule(const std::shared_ptr<Probe>& probe, Duration delay) {
    probe->next = loop.After(delay, [weak = weak_from_this(), weak_probe = std::weak_ptr(probe)] {
      const auto self = weak.lock();
      const auto due = weak_probe.lock();
      if (self && due) self->BeginRound(due);
    });
  }

  // `url` leads to the endpoint; a name is replaced by what it stands for. With TLS it stays, for
  // the certificate.
  net::Url Resolved(const Probe& probe, net::Url url) const {
    if (!probe.ip.empty() && !url.tls) url.address.host = probe.ip;
    return url;
  }

  void Get(const Probe& probe, const net::Url& url, const std::string& target, size_t max_body,
           std::function<void(Impl&, Result<net::HttpResponse>)> done) {
    net::HttpRequest request;
    request.method = "GET";
    request.target = target;
    request.headers.Add("Host", url.address.ToString());
    if (!options.api_key.empty()) request.headers.Add("Authorization", "Bearer " + options.api_key);
    client->Fetch(
        Resolved(probe, url), std::move(request), options.request_timeout, max_body,
        [weak = weak_from_this(), done = std::move(done)](Result<net::HttpResponse> answer) {
          if (const auto self = weak.lock(); self && self->running) done(*self, std::move(answer));
        });
  }

  net::Url ScrapeUrl(const Probe& probe) const {
    net::Url url = probe.url;
    if (options.scrape.port != 0) url.address.port = options.scrape.port;
    if (!options.scrape.scheme.empty()) url.tls = options.scrape.scheme == "https";
    return url;
  }

  // Now, or when its turn comes.
  void BeginRound(const std::shared_ptr<Probe>& probe) EXCLUDES(mutex) {
    if (!client || probe->in_round) return;
    bool failing = false;
    bool urgent = false;
    {
      MutexLock lock(mutex);
      if (probe->removed) return;
      failing = probe->failures > 0;
      // Whoever was never asked cannot be chosen.
      urgent = probe->state->health == Health::kUnknown;
    }
    probe->next.Cancel();
    if (probe->named && !NameKnown(probe, failing)) return;
    if (rounds.Begin(probe->id, urgent || Active(*probe), SystemClock().Now())) {
      StartRound(probe);
    } else {
      AwaitTurn();
    }
  }

  // Rounds are paced in the time of the loop's timers.
  void AwaitTurn() {
    const auto at = rounds.NextAt();
    if (!at || turn_pending) return;
    turn_pending = true;
    turn_timer =
        loop.After(std::max(*at - SystemClock().Now(), kMinTurn), [weak = weak_from_this()] {
          const auto self = weak.lock();
          if (!self) return;
          self->turn_pending = false;
          self->BeginNext();
        });
  }

  // Who waited for a turn.
  void BeginNext() EXCLUDES(mutex) {
    while (const auto id = rounds.Next(SystemClock().Now())) {
      if (const auto next = Find(*id)) {
        StartRound(next);
      } else {
        rounds.Ended();
      }
    }
    AwaitTurn();
  }

  void StartRound(const std::shared_ptr<Probe>& probe) EXCLUDES(mutex) {
    auto round = std::make_shared<Round>();
    round->probe = probe;
    round->started = clock.Now();
    bool ask_health = true;
    {
      MutexLock lock(mutex);
      round->reports = probe->reports;
      round->reader = ReaderOf(*probe);
      round->scrape = ScrapeDue(*probe);
      ask_health = !round->scrape || probe->failures > 0 ||
                   probe->state->health != Health::kHealthy || probe->state->models.empty() ||
                   round->started - probe->health_at >= options.health_interval;
    }
    probe->in_round = true;
    if (!ask_health) return Healthy(round);
    const std::string& path = round->reader->health_path();
    Get(*probe, probe->url, path, kMaxSmallBody,
        [round, path](Impl& self, Result<net::HttpResponse> answer) {
          if (!answer) {
            self.Failed(*round, "GET " + path + ": " + answer.error().message);
          } else if (answer->status < 200 || answer->status > 299) {
            self.Failed(*round, fmt::format("GET {} answered {}", path, answer->status));
          } else {
            round->probe->health_at = self.clock.Now();
            self.Healthy(round);
          }
        });
  }

  std::shared_ptr<const LoadReader> ReaderOf(Probe& probe) REQUIRES(mutex) {
    EngineChoice choice = readers.For(probe.state->spec.labels);
    if (!choice.known && !std::exchange(probe.engine_told, true)) {
      WP_LOG(kWarn, "fleet", "endpoint names an engine that is not known: read as the default one",
             {"endpoint", probe.name}, {"label", options.scrape.engine_label},
             {"engine", choice.engine});
    }
    return std::move(choice.reader);
  }

  // ---- DNS names, loop only

  // Asks again where that is due. False while there is no answer: the round begins with it.
  bool NameKnown(const std::shared_ptr<Probe>& probe, bool failing) EXCLUDES(mutex) {
    const bool known = !probe->ip.empty();
    const Duration age = clock.Now() - probe->resolve_asked;
    const Duration patience = known && !failing ? options.resolve_interval
                                                : std::min(options.resolve_interval, kReaskName);
    const bool first = probe->resolve_asked == TimePoint{};
    if (!probe->resolving && (first || !known || age >= patience)) {
      probe->resolving = true;
      probe->resolve_asked = clock.Now();
      resolver.Resolve(probe->url.address.host, [&on = loop, weak = weak_from_this(),
                                                 weak_probe = std::weak_ptr(probe)](auto answer) {
        on.Post([weak, weak_probe, answer = std::move(answer)]() mutable {
          const auto self = weak.lock();
          const auto asked = weak_probe.lock();
          if (self && asked && self->running) self->NameAnswered(asked, std::move(answer));
        });
      });
    }
    if (!known && first) {
      MutexLock lock(mutex);
      Change(*probe, [&](Endpoint& endpoint) {
        endpoint.health = Health::kUnhealthy;
        endpoint.health_reason = probe->url.address.host + " is not resolved yet";
      });
    }
    return known;
  }

  void NameAnswered(const std::shared_ptr<Probe>& probe, Result<std::vector<std::string>> answer)
      EXCLUDES(mutex) {
    probe->resolving = false;
    if (answer && answer->empty()) answer = Fail(Code::kUnavailable, "the name has no address");
    if (!answer) {
      metrics.CountPollError("dns");
      if (!probe->ip.empty()) return;  // the last is kept
      MutexLock lock(mutex);
      if (probe->removed) return;
      ++probe->failures;
      SetUnhealthy(*probe, answer.error().message);
      return Schedule(probe, std::min(options.resolve_interval, kReaskName));
    }
    if (std::find(answer->begin(), answer->end(), probe->ip) != answer->end()) return;
    if (probe->ip.empty()) {
      SetAddress(probe, answer->front());
    } else {
      Replace(probe, answer->front());
    }
  }

  void SetAddress(const std::shared_ptr<Probe>& probe, const std::string& ip) EXCLUDES(mutex) {
    probe->ip = ip;
    {
      MutexLock lock(mutex);
      if (probe->removed) return;
      Change(*probe, [&](Endpoint& endpoint) {
        endpoint.resolved = net::HostPort{ip, endpoint.spec.url.address.port}.ToString();
      });
    }
    BeginRound(probe);
  }

  // Behind a name that moved is another engine.
  void Replace(const std::shared_ptr<Probe>& old, const std::string& ip)
      EXCLUDES(mutex, index_mutex) {
    std::shared_ptr<Probe> next;
    {
      MutexLock lock(mutex);
      const auto it = std::find(probes.begin(), probes.end(), old);
      if (it == probes.end()) return;
      next = MakeProbe(old->state->spec, next_id++);
      next->resolve_asked = old->resolve_asked;
      old->removed = true;
      *it = next;
      PublishMembers();
    }
    WP_LOG(kInfo, "fleet", "endpoint's name stands for another address", {"endpoint", old->name},
           {"before", old->ip}, {"now", ip});
    old->next.Cancel();
    rounds.Forget(old->id);
    Notify();
    SetAddress(next, ip);
  }

  // ---- Rounds' answers, loop only

  void Failed(Round& round, const std::string& reason) EXCLUDES(mutex) {
    metrics.CountPollError("health");
    round.probe->health_at = {};
    Probe& probe = *round.probe;
    {
      MutexLock lock(mutex);
      ++probe.failures;
      // Never seen healthy: nothing to be patient for.
      if (probe.failures >= options.failures_to_unhealthy ||
          probe.state->health != Health::kHealthy) {
        SetUnhealthy(probe, reason);
      }
    }
    EndRound(round);
  }

  // One question after the other: one connection serves them all.
  void Healthy(const std::shared_ptr<Round>& round) EXCLUDES(mutex) {
    Probe& probe = *round->probe;
    bool returned = false;
    {
      MutexLock lock(mutex);
      returned = probe.state->health != Health::kHealthy || probe.state->models.empty();
    }
    round->ask_models = returned || clock.Now() - probe.models_at >= options.models_interval;
    if (!round->scrape && !returned) return AskModels(round);
    probe.scraped_at = clock.Now();
    Ask(
        round, ScrapeUrl(probe), options.scrape.path, kMaxMetricsBody,
        {kMetricsSource, "core-metrics-extractor"},
        [round](std::string_view body) -> Status {
          WP_TRY(round->load, round->reader->Read(body));
          round->probe->busy = round->load->running > 0 || round->load->waiting > 0;
          return {};
        },
        &Impl::AskModels);
  }

  void AskModels(const std::shared_ptr<Round>& round) EXCLUDES(mutex) {
    if (!round->ask_models) return Finish(*round);
    Ask(
        round, round->probe->url, "/v1/models", kMaxModelsBody,
        {kModelsSource, "models-data-extractor"},
        [round](std::string_view body) -> Status {
          WP_TRY(round->models, ParseModels(body));
          return {};
        },
        &Impl::AskVersion);
  }

  void AskVersion(const std::shared_ptr<Round>& round) EXCLUDES(mutex) {
    Ask(
        round, round->probe->url, "/version", kMaxSmallBody, {"version", "version"},
        [round](std::string_view body) -> Status {
          WP_TRY(round->version, ParseVersion(body));
          return {};
        },
        &Impl::FinishRound);
  }

  void FinishRound(const std::shared_ptr<Round>& round) EXCLUDES(mutex) { Finish(*round); }

  struct Source {
    const char* type;
    const char* extractor;
  };

  // One of the questions of a round; its failure leaves the old answer in place.
  void Ask(const std::shared_ptr<Round>& round, const net::Url& url, const std::string& target,
           size_t max_body, Source source, std::function<Status(std::string_view)> read,
           void (Impl::*then)(const std::shared_ptr<Round>&)) {
    Get(*round->probe, url, target, max_body,
        [round, target, source, read = std::move(read), then](Impl& self,
                                                              Result<net::HttpResponse> answer) {
          Status status;
          if (!answer) {
            status = tl::unexpected(answer.error());
            round->probe->health_at = {};
          } else if (answer->status != 200) {
            status = Fail(Code::kUnavailable, fmt::format("answered {}", answer->status));
          }
          if (!status) {
            self.metrics.CountPollError(source.type);
          } else if (status = read(answer->body); !status) {
            self.metrics.CountExtractError(source.type, source.extractor);
          }
          if (answer && (answer->status == 401 || answer->status == 403) &&
              !std::exchange(round->probe->key_wanted, true)) {
            WP_LOG(kWarn, "fleet",
                   "engine refuses to name its models: give its key with --engine-api-key-file",
                   {"endpoint", round->probe->name}, {"path", target}, {"status", answer->status});
          }
          if (!status) {
            WP_LOG(kDebug, "fleet", "poll failed", {"endpoint", round->probe->name},
                   {"path", target}, {"reason", status.error().message});
          }
          (self.*then)(round);
        });
  }

  void Finish(Round& round) EXCLUDES(mutex) {
    Probe& probe = *round.probe;
    if (round.models) probe.models_at = clock.Now();
    {
      MutexLock lock(mutex);
      // The data path saw it fail meanwhile: the next round decides.
      const bool believed = round.reports == probe.reports;
      const bool returned = believed && probe.state->health != Health::kHealthy;
      const bool new_models = round.models && !SameModels(*round.models, probe.state->models);
      if (believed) probe.failures = 0;
      const bool learned = round.load || round.models || round.version;
      const auto take = [&](Endpoint& endpoint) {
        if (believed) {
          endpoint.health = Health::kHealthy;
          endpoint.health_reason.clear();
        }
        if (round.load) {
          endpoint.load = std::move(*round.load);
          endpoint.load.at = clock.Now();
          endpoint.load.again = ScrapeInterval(probe);
        }
        if (round.models) endpoint.models = std::move(*round.models);
        if (round.version) endpoint.engine_version = std::move(*round.version);
      };
      if (returned || learned) Change(probe, take, new_models);
      if (returned) {
        WP_LOG(kInfo, "fleet", "endpoint is healthy", {"endpoint", probe.state->name()},
               {"version", probe.state->engine_version},
               {"model", probe.state->models.empty() ? "" : probe.state->models.front().id});
        const uint16_t ranks = probe.state->load.ranks;
        const uint16_t expected = std::max<uint16_t>(1, probe.state->spec.data_parallel);
        if (ranks != 0 && ranks != expected) {
          WP_LOG(kWarn, "fleet", "endpoint has another number of data-parallel ranks: set its dp=",
                 {"endpoint", probe.state->name()}, {"ranks", ranks}, {"dp", expected});
        }
      }
      if ((returned || new_models) && !probe.removed) Notify();
    }
    EndRound(round);
  }

  void EndRound(Round& round) EXCLUDES(mutex) {
    const std::shared_ptr<Probe>& probe = round.probe;
    probe->in_round = false;
    rounds.Ended();
    BeginNext();
    Duration interval = options.idle_interval;
    {
      MutexLock lock(mutex);
      if (probe->removed) return;
      if (round.reports != probe->reports) {
        interval = kRecheckReported;
      } else if (probe->state->health == Health::kUnhealthy) {
        interval = std::min(interval, kRecheckUnhealthy);
      } else if (probe->failures > 0 || Active(*probe)) {
        interval = options.active_interval;
      }
    }
    Schedule(probe, std::max(interval - (clock.Now() - round.started), kMinPause));
  }

  // Loop only.
  bool Active(const Probe& probe) const {
    const Duration::rep since = (clock.Now() - kActiveWindow).time_since_epoch().count();
    return probe.busy || probe.touched.load(std::memory_order_relaxed) >= since ||
           ledger.Load(probe.id).requests > 0;
  }

  bool ScrapeDue(const Probe& probe) const {
    return probe.scraped_at == TimePoint{} || Active(probe) ||
           clock.Now() - probe.scraped_at >= options.idle_scrape_interval;
  }

  // Until the next scrape, as things are.
  Duration ScrapeInterval(const Probe& probe) const {
    return Active(probe) ? options.active_interval
                         : std::max(options.idle_interval,
                                    options.idle_scrape_interval + options.idle_interval);
  }

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

Fleet::Fleet(net::Loop& loop, FleetOptions options, Registry& metrics, const Clock& clock)
    : impl_(std::make_shared<Impl>(loop, std::move(options), metrics, clock)) {
  metrics.OnRender([weak = std::weak_ptr(impl_)] {
    const auto impl = weak.lock();
    if (!impl) return;
    const uint64_t version = impl->version;
    impl->metrics.Refresh(*impl->Current(), impl->ledger, version, impl->clock.Now());
  });
}

Fleet::~Fleet() {
  Stop();
}

void Fleet::SetEndpoints(std::vector<EndpointSpec> specs) {
  impl_->SetEndpoints(std::move(specs));
}
std::shared_ptr<const Snapshot> Fleet::snapshot() const {
  return impl_->Current();
}
InflightLedger& Fleet::inflight() {
  return impl_->ledger;
}

void Fleet::OnChange(Listener listener) {
  WP_CHECK(!impl_->running);
  impl_->listeners.push_back(std::move(listener));
}

void Fleet::Touch(EndpointId id) {
  impl_->Touch(id);
}

void Fleet::ReportFailure(EndpointId id, const std::string& reason) {
  impl_->ReportFailure(id, reason);
}

void Fleet::UpdateForTest(EndpointId id, const std::function<void(Endpoint&)>& change) {
  const auto probe = impl_->Find(id);
  WP_CHECK(probe != nullptr);
  MutexLock lock(impl_->mutex);
  impl_->Change(*probe, change);
}

void Fleet::Start() {
  std::vector<std::shared_ptr<Probe>> probes;
  {
    MutexLock lock(impl_->mutex);
    if (impl_->started) return;
    impl_->started = true;
    probes = impl_->probes;
  }
  impl_->running = true;
  impl_->Post([probes = std::move(probes)](Impl& self) {
    net::HttpClientOptions options;
    options.connect_timeout = self.options.request_timeout;
    options.max_idle_per_host = 1;
    options.tls = self.options.tls;
    self.client = net::HttpClient::Create(self.loop, options);
    for (const auto& probe : probes) self.BeginRound(probe);
  });
  impl_->Notify();
}

void Fleet::Stop() {
  if (!impl_->running.exchange(false)) return;
  impl_->resolver.Stop();
  const auto close = [impl = impl_] {
    MutexLock lock(impl->mutex);
    for (const auto& probe : impl->probes) probe->next.Cancel();
    impl->rounds.Clear();
    impl->turn_timer.Cancel();
    impl->publish_timer.Cancel();
    impl->client.reset();
  };
  if (impl_->loop.InLoop()) {
    close();
  } else {
    impl_->loop.Run(close);
  }
}

}  // namespace warmpath::fleet
