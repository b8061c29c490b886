#include <algorithm>
#include <utility>

#include "base/log.h"
#include "fleet/fleet_impl.h"

namespace warmpath::fleet {
namespace {

constexpr Duration kReaskName = std::chrono::seconds(2);  // while it is not resolved or fails

}  // namespace

bool Fleet::Impl::NameKnown(const std::shared_ptr<Probe>& probe, bool failing) {
  const bool known = !probe->ip.empty();
  const Duration age = clock.Now() - probe->resolve_asked;
  const Duration patience =
      known && !failing ? options.resolve_interval : std::min(options.resolve_interval, kReaskName);
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

void Fleet::Impl::NameAnswered(const std::shared_ptr<Probe>& probe,
                               Result<std::vector<std::string>> answer) {
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

void Fleet::Impl::SetAddress(const std::shared_ptr<Probe>& probe, const std::string& ip) {
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

void Fleet::Impl::Replace(const std::shared_ptr<Probe>& old, const std::string& ip) {
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

}  // namespace warmpath::fleet
