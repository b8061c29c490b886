#include "fleet/fleet.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "fleet/fleet_impl.h"

namespace warmpath::fleet {
namespace {

constexpr size_t kMaxReasonBytes = 300;
// Of larger fleets what is scraped is published together, this often.
constexpr size_t kPublishAtOnce = 256;
constexpr Duration kPublishInterval = std::chrono::milliseconds(20);

bool SameIdentity(const EndpointSpec& a, const EndpointSpec& b) {
  return a.name == b.name && a.ns == b.ns && a.incarnation == b.incarnation &&
         a.url.tls == b.url.tls && a.url.address == b.url.address &&
         a.url.base_path == b.url.base_path && a.events == b.events && a.replay == b.replay &&
         a.data_parallel == b.data_parallel;
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

}  // namespace

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

std::shared_ptr<const Snapshot> Fleet::Impl::Current() const {
  return std::atomic_load(&snapshot);
}

void Fleet::Impl::Publish() {
  auto next = std::make_shared<Snapshot>();
  next->endpoints.reserve(probes.size());
  for (const auto& probe : probes) next->endpoints.push_back(probe->state);
  std::atomic_store(&snapshot, std::shared_ptr<const Snapshot>(std::move(next)));
}

void Fleet::Impl::Change(Probe& probe, const std::function<void(Endpoint&)>& change, bool at_once) {
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

void Fleet::Impl::PublishSoon() {
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

std::shared_ptr<Probe> Fleet::Impl::Find(EndpointId id) const {
  ReaderLock lock(index_mutex);
  const auto it = by_id.find(id);
  return it == by_id.end() ? nullptr : it->second;
}

void Fleet::Impl::Notify() {
  if (notify_posted.exchange(true)) return;
  Post([](Impl& self) {
    self.notify_posted = false;
    const auto now = self.Current();
    for (const Listener& listener : self.listeners) listener(*now);
  });
}

void Fleet::Impl::Post(std::function<void(Impl&)> work) {
  loop.Post([weak = weak_from_this(), work = std::move(work)] {
    if (const auto self = weak.lock(); self && self->running) work(*self);
  });
}

void Fleet::Impl::PublishMembers() {
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

void Fleet::Impl::SetEndpoints(std::vector<EndpointSpec> specs) {
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

void Fleet::Impl::Touch(EndpointId id) {
  const auto probe = Find(id);
  if (!probe) return;
  const Duration::rep now = clock.Now().time_since_epoch().count();
  const Duration::rep before = probe->touched.exchange(now, std::memory_order_relaxed);
  // Idle until now: do not wait for the slow timer.
  if (before < now - kActiveWindow.count()) {
    Post([probe](Impl& self) { self.BeginRound(probe); });
  }
}

void Fleet::Impl::ReportFailure(EndpointId id, const std::string& reason) {
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

void Fleet::Impl::SetUnhealthy(Probe& probe, const std::string& reason) {
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
