#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "fleet/fleet_impl.h"

namespace warmpath::fleet {
namespace {

using std::chrono::milliseconds;

constexpr Duration kRecheckUnhealthy = milliseconds(500);  // at least this often while it is away
constexpr Duration kMinPause = milliseconds(10);  // between the end of a round and the next
constexpr Duration kMinTurn = milliseconds(5);    // between turns of those that wait
constexpr Duration kVersionInterval = std::chrono::minutes(1);
// Endpoints without traffic are asked together, at multiples of this: waking up costs more than a
// question does.
constexpr Duration kIdleGrid = milliseconds(100);
constexpr size_t kMaxSmallBody = 64 << 10;  // /health, /version
constexpr size_t kMaxModelsBody = 4 << 20;
constexpr size_t kMaxMetricsBody = 16 << 20;
constexpr char kMetricsSource[] = "metrics-data-source";
constexpr char kModelsSource[] = "models-data-source";

bool SameModels(const std::vector<ServedModel>& a, const std::vector<ServedModel>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const ServedModel& x, const ServedModel& y) {
                      return x.id == y.id && x.root == y.root && x.parent == y.parent;
                    });
}

// Moved by half a step at most.
Duration OnGrid(Duration delay) {
  const Duration due = SystemClock().Now().time_since_epoch() + delay + kIdleGrid / 2;
  return delay + kIdleGrid / 2 - due % kIdleGrid;
}

}  // namespace

void Fleet::Impl::Schedule(const std::shared_ptr<Probe>& probe, Duration delay) {
  probe->next = loop.After(delay, [weak = weak_from_this(), weak_probe = std::weak_ptr(probe)] {
    const auto self = weak.lock();
    const auto due = weak_probe.lock();
    if (self && due) self->BeginRound(due);
  });
}

net::Url Fleet::Impl::Resolved(const Probe& probe, net::Url url) const {
  if (!probe.ip.empty() && !url.tls) url.address.host = probe.ip;
  return url;
}

void Fleet::Impl::Get(const Probe& probe, const net::Url& url, const std::string& target,
                      size_t max_body, std::function<void(Impl&, Result<net::HttpResponse>)> done) {
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

net::Url Fleet::Impl::ScrapeUrl(const Probe& probe) const {
  net::Url url = probe.url;
  if (options.scrape.port != 0) url.address.port = options.scrape.port;
  if (!options.scrape.scheme.empty()) url.tls = options.scrape.scheme == "https";
  return url;
}

void Fleet::Impl::BeginRound(const std::shared_ptr<Probe>& probe) {
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

void Fleet::Impl::AwaitTurn() {
  const auto at = rounds.NextAt();
  if (!at || turn_pending) return;
  turn_pending = true;
  turn_timer = loop.After(std::max(*at - SystemClock().Now(), kMinTurn), [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->turn_pending = false;
    self->BeginNext();
  });
}

void Fleet::Impl::BeginNext() {
  while (const auto id = rounds.Next(SystemClock().Now())) {
    if (const auto next = Find(*id)) {
      StartRound(next);
    } else {
      rounds.Ended();
    }
  }
  AwaitTurn();
}

void Fleet::Impl::StartRound(const std::shared_ptr<Probe>& probe) {
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

std::shared_ptr<const LoadReader> Fleet::Impl::ReaderOf(Probe& probe) {
  EngineChoice choice = readers.For(probe.state->spec.labels);
  if (!choice.known && !std::exchange(probe.engine_told, true)) {
    WP_LOG(kWarn, "fleet", "endpoint names an engine that is not known: read as the default one",
           {"endpoint", probe.name}, {"label", options.scrape.engine_label},
           {"engine", choice.engine});
  }
  return std::move(choice.reader);
}

void Fleet::Impl::Failed(Round& round, const std::string& reason) {
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

void Fleet::Impl::Healthy(const std::shared_ptr<Round>& round) {
  Probe& probe = *round->probe;
  bool returned = false;
  {
    MutexLock lock(mutex);
    returned = probe.state->health != Health::kHealthy || probe.state->models.empty();
  }
  round->ask_version = returned || clock.Now() - probe.version_at >= kVersionInterval;
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

void Fleet::Impl::AskModels(const std::shared_ptr<Round>& round) {
  if (!round->ask_models) return Finish(round);
  Ask(
      round, round->probe->url, "/v1/models", kMaxModelsBody,
      {kModelsSource, "models-data-extractor"},
      [round](std::string_view body) -> Status {
        WP_TRY(round->models, ParseModels(body));
        return {};
      },
      &Impl::AskVersion);
}

void Fleet::Impl::AskVersion(const std::shared_ptr<Round>& round) {
  if (!round->ask_version) return Finish(round);
  round->probe->version_at = clock.Now();
  Ask(
      round, round->probe->url, "/version", kMaxSmallBody, {"version", "version"},
      [round](std::string_view body) -> Status {
        WP_TRY(round->version, ParseVersion(body));
        return {};
      },
      &Impl::Finish);
}

void Fleet::Impl::Ask(const std::shared_ptr<Round>& round, const net::Url& url,
                      const std::string& target, size_t max_body, Source source,
                      std::function<Status(std::string_view)> read,
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
          WP_LOG(kDebug, "fleet", "poll failed", {"endpoint", round->probe->name}, {"path", target},
                 {"reason", status.error().message});
        }
        (self.*then)(round);
      });
}

void Fleet::Impl::Finish(const std::shared_ptr<Round>& finished) {
  Round& round = *finished;
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

void Fleet::Impl::EndRound(Round& round) {
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
  const Duration delay = std::max(interval - (clock.Now() - round.started), kMinPause);
  Schedule(probe, interval >= 10 * kIdleGrid ? std::max(OnGrid(delay), kMinPause) : delay);
}

bool Fleet::Impl::Active(const Probe& probe) const {
  const Duration::rep since = (clock.Now() - kActiveWindow).time_since_epoch().count();
  return probe.busy || probe.touched.load(std::memory_order_relaxed) >= since ||
         ledger.Load(probe.id).requests > 0;
}

bool Fleet::Impl::ScrapeDue(const Probe& probe) const {
  return probe.scraped_at == TimePoint{} || Active(probe) ||
         clock.Now() - probe.scraped_at >= options.idle_scrape_interval;
}

Duration Fleet::Impl::ScrapeInterval(const Probe& probe) const {
  return Active(probe) ? options.active_interval
                       : std::max(options.idle_interval,
                                  options.idle_scrape_interval + options.idle_interval);
}

}  // namespace warmpath::fleet
