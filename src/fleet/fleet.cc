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

// One endpoint under observation.
struct Probe {
  EndpointId id = 0;
  net::Url url;
  std::string name;
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
  TimePoint models_at{};    // when /v1/models was last read
  bool key_wanted = false;  // it refused us for want of a key; told once
};

// What one round learned; filled in by the answers as they come.
struct Round {
  std::shared_ptr<Probe> probe;
  TimePoint started{};
  uint64_t reports = 0;
  int pending = 0;
  std::optional<ScrapedLoad> load;
  std::optional<std::vector<ServedModel>> models;
  std::optional<std::string> version;
};

bool SameIdentity(const EndpointSpec& a, const EndpointSpec& b) {
  return a.name == b.name && a.url.ToString() == b.url.ToString() && a.events == b.events &&
         a.replay == b.replay && a.data_parallel == b.data_parallel;
}

bool SameModels(const std::vector<ServedModel>& a, const std::vector<ServedModel>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const ServedModel& x, const ServedModel& y) {
                      return x.id == y.id && x.root == y.root && x.parent == y.parent;
                    });
}

}  // namespace

struct Fleet::Impl : std::enable_shared_from_this<Fleet::Impl> {
  Impl(net::Loop& run_loop, FleetOptions fleet_options, Registry& registry, const Clock& time)
      : loop(run_loop),
        options(std::move(fleet_options)),
        clock(time),
        metrics(registry, options.pool_name) {}

  // ---- State, any thread

  std::shared_ptr<const Snapshot> Current() const { return std::atomic_load(&snapshot); }

  void Publish() REQUIRES(mutex) {
    auto next = std::make_shared<Snapshot>();
    next->endpoints.reserve(probes.size());
    for (const auto& probe : probes) next->endpoints.push_back(probe->state);
    std::atomic_store(&snapshot, std::shared_ptr<const Snapshot>(std::move(next)));
  }

  void Change(Probe& probe, const std::function<void(Endpoint&)>& change) REQUIRES(mutex) {
    auto next = std::make_shared<Endpoint>(*probe.state);
    change(*next);
    probe.state = std::move(next);
    Publish();
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

  void SetEndpoints(std::vector<EndpointSpec> specs) EXCLUDES(mutex, index_mutex) {
    std::vector<std::shared_ptr<Probe>> added;
    std::vector<std::shared_ptr<Probe>> removed;
    bool is_started = false;
    {
      MutexLock lock(mutex);
      std::vector<std::shared_ptr<Probe>> next;
      next.reserve(specs.size());
      for (EndpointSpec& spec : specs) {
        const auto known = std::find_if(probes.begin(), probes.end(), [&](const auto& probe) {
          return probe && SameIdentity(probe->state->spec, spec);
        });
        auto state = std::make_shared<Endpoint>();
        if (known != probes.end()) {
          *state = *(*known)->state;
          state->spec.labels = std::move(spec.labels);
          next.push_back(std::move(*known));
        } else {
          next.push_back(std::make_shared<Probe>());
          next.back()->id = state->id = next_id++;
          next.back()->url = spec.url;
          next.back()->name = spec.name;
          state->spec = std::move(spec);
          added.push_back(next.back());
        }
        next.back()->state = std::move(state);
      }
      for (auto& probe : probes) {
        if (probe) removed.push_back(std::move(probe));
      }
      for (auto& probe : removed) probe->removed = true;
      probes = std::move(next);
      {
        WriterLock index_lock(index_mutex);
        by_id.clear();
        for (const auto& probe : probes) by_id.emplace(probe->id, probe);
      }
      Publish();
      is_started = started;
    }
    for (const auto& probe : removed) ledger.Forget(probe->id);
    if (!is_started) return;
    Post([added = std::move(added), removed = std::move(removed)](Impl& self) {
      for (const auto& probe : removed) probe->next.Cancel();
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

  void Get(const std::shared_ptr<Round>& round, const std::string& target, size_t max_body,
           std::function<void(Impl&, Result<net::HttpResponse>)> done) {
    net::HttpRequest request;
    request.method = "GET";
    request.target = target;
    if (!options.api_key.empty()) request.headers.Add("Authorization", "Bearer " + options.api_key);
    client->Fetch(
        round->probe->url, std::move(request), options.request_timeout, max_body,
        [weak = weak_from_this(), done = std::move(done)](Result<net::HttpResponse> answer) {
          if (const auto self = weak.lock(); self && self->running) done(*self, std::move(answer));
        });
  }

  void BeginRound(const std::shared_ptr<Probe>& probe) EXCLUDES(mutex) {
    if (!client || probe->in_round) return;
    auto round = std::make_shared<Round>();
    round->probe = probe;
    round->started = clock.Now();
    {
      MutexLock lock(mutex);
      if (probe->removed) return;
      round->reports = probe->reports;
    }
    probe->in_round = true;
    probe->next.Cancel();
    Get(round, "/health", kMaxSmallBody, [round](Impl& self, Result<net::HttpResponse> answer) {
      if (!answer) {
        self.Failed(*round, "GET /health: " + answer.error().message);
      } else if (answer->status < 200 || answer->status > 299) {
        self.Failed(*round, fmt::format("GET /health answered {}", answer->status));
      } else {
        self.Healthy(round);
      }
    });
  }

  void Failed(Round& round, const std::string& reason) EXCLUDES(mutex) {
    metrics.CountPollError("health");
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

  void Healthy(const std::shared_ptr<Round>& round) EXCLUDES(mutex) {
    const Probe& probe = *round->probe;
    bool returned = false;
    {
      MutexLock lock(mutex);
      returned = probe.state->health != Health::kHealthy || probe.state->models.empty();
    }
    const bool want_models = returned || clock.Now() - probe.models_at >= options.models_interval;
    round->pending = want_models ? 3 : 1;
    Ask(round, "/metrics", kMaxMetricsBody, [round](std::string_view body) -> Status {
      WP_TRY(round->load, ParseLoad(body));
      return {};
    });
    if (!want_models) return;
    Ask(round, "/v1/models", kMaxModelsBody, [round](std::string_view body) -> Status {
      WP_TRY(round->models, ParseModels(body));
      return {};
    });
    Ask(round, "/version", kMaxSmallBody, [round](std::string_view body) -> Status {
      WP_TRY(round->version, ParseVersion(body));
      return {};
    });
  }

  // One of the questions of a round; its failure leaves the old answer in place.
  void Ask(const std::shared_ptr<Round>& round, const std::string& target, size_t max_body,
           std::function<Status(std::string_view)> read) {
    Get(round, target, max_body,
        [round, target, read = std::move(read)](Impl& self, Result<net::HttpResponse> answer) {
          Status status;
          if (!answer) {
            status = tl::unexpected(answer.error());
          } else if (answer->status != 200) {
            status = Fail(Code::kUnavailable, fmt::format("answered {}", answer->status));
          } else {
            status = read(answer->body);
          }
          if (answer && (answer->status == 401 || answer->status == 403) &&
              !std::exchange(round->probe->key_wanted, true)) {
            WP_LOG(kWarn, "fleet",
                   "engine refuses to name its models: give its key with --engine-api-key-file",
                   {"endpoint", round->probe->name}, {"path", target}, {"status", answer->status});
          }
          if (!status) {
            self.metrics.CountPollError(target.substr(target.rfind('/') + 1));
            WP_LOG(kDebug, "fleet", "poll failed", {"endpoint", round->probe->name},
                   {"path", target}, {"reason", status.error().message});
          }
          if (--round->pending == 0) self.Finish(*round);
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
      Change(probe, [&](Endpoint& endpoint) {
        if (believed) {
          endpoint.health = Health::kHealthy;
          endpoint.health_reason.clear();
        }
        if (round.load) {
          endpoint.load = *round.load;
          endpoint.load.at = clock.Now();
        }
        if (round.models) endpoint.models = std::move(*round.models);
        if (round.version) endpoint.engine_version = std::move(*round.version);
      });
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

  bool Active(const Probe& probe) const {
    const Duration::rep since = (clock.Now() - kActiveWindow).time_since_epoch().count();
    return probe.touched.load(std::memory_order_relaxed) >= since ||
           ledger.Load(probe.id).requests > 0;
  }

  net::Loop& loop;
  const FleetOptions options;
  const Clock& clock;
  FleetMetrics metrics;
  InflightLedger ledger;
  std::vector<Listener> listeners;  // fixed by Start
  std::atomic<bool> running{false};
  std::atomic<bool> notify_posted{false};

  mutable Mutex mutex;  // before index_mutex
  std::vector<std::shared_ptr<Probe>> probes GUARDED_BY(mutex);
  EndpointId next_id GUARDED_BY(mutex) = 1;
  bool started GUARDED_BY(mutex) = false;
  std::shared_ptr<const Snapshot> snapshot = std::make_shared<const Snapshot>();

  mutable SharedMutex index_mutex;
  std::unordered_map<EndpointId, std::shared_ptr<Probe>> by_id GUARDED_BY(index_mutex);

  std::unique_ptr<net::HttpClient> client;  // loop only
};

Fleet::Fleet(net::Loop& loop, FleetOptions options, Registry& metrics, const Clock& clock)
    : impl_(std::make_shared<Impl>(loop, std::move(options), metrics, clock)) {
  metrics.OnRender([weak = std::weak_ptr(impl_)] {
    if (const auto impl = weak.lock()) impl->metrics.Refresh(*impl->Current());
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
    options.max_idle_per_host = 4;
    self.client = net::HttpClient::Create(self.loop, options);
    for (const auto& probe : probes) self.BeginRound(probe);
  });
  impl_->Notify();
}

void Fleet::Stop() {
  if (!impl_->running.exchange(false)) return;
  const auto close = [impl = impl_] {
    MutexLock lock(impl->mutex);
    for (const auto& probe : impl->probes) probe->next.Cancel();
    impl->client.reset();
  };
  if (impl_->loop.InLoop()) {
    close();
  } else {
    impl_->loop.Run(close);
  }
}

}  // namespace warmpath::fleet
