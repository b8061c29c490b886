#include "k8s/metrics.h"

#include "base/mutex.h"

namespace warmpath::k8s {
namespace {

constexpr char kAgeName[] = "warmpath_kubernetes_seconds_since_contact";
constexpr char kRequestsName[] = "warmpath_kubernetes_requests_total";
constexpr char kRequestsHelp[] =
    "Requests to the Kubernetes API by class of the answer's status; error: no answer.";

}  // namespace

RequestMetrics::RequestMetrics(Registry& registry)
    : classes_{registry.AddCounter(kRequestsName, kRequestsHelp, {{"code", "error"}}),
               registry.AddCounter(kRequestsName, kRequestsHelp, {{"code", "1xx"}}),
               registry.AddCounter(kRequestsName, kRequestsHelp, {{"code", "2xx"}}),
               registry.AddCounter(kRequestsName, kRequestsHelp, {{"code", "3xx"}}),
               registry.AddCounter(kRequestsName, kRequestsHelp, {{"code", "4xx"}}),
               registry.AddCounter(kRequestsName, kRequestsHelp, {{"code", "5xx"}})} {}

void RequestMetrics::Count(int status) const {
  classes_[status >= 100 && status < 600 ? status / 100 : 0].Add();
}

// The registry keeps its callbacks for ever; the clock is only used while the reflector lives. The
// gauge stays: a reflector that takes over the kind has the same one.
struct KindMetrics::Age {
  Age(const Gauge& g, const Clock& c) : gauge(g), clock(&c), contact(c.Now()) {}
  const Gauge gauge;
  Mutex mutex;
  const Clock* clock GUARDED_BY(mutex);
  TimePoint contact GUARDED_BY(mutex);
};

KindMetrics::KindMetrics(Registry& registry, const Clock& clock, const std::string& kind)
    : lists(registry.AddCounter("warmpath_kubernetes_lists_total",
                                "Lists of a kind taken whole from the Kubernetes API.",
                                {{"kind", kind}})),
      restarts(registry.AddCounter("warmpath_kubernetes_watch_restarts_total",
                                   "Watches of a kind begun after the first.", {{"kind", kind}})),
      events(registry.AddCounter("warmpath_kubernetes_events_total",
                                 "Changes of objects of a kind seen by its watch.",
                                 {{"kind", kind}})),
      failures(registry.AddCounter("warmpath_kubernetes_failures_total",
                                   "Lists and watches of a kind that failed.", {{"kind", kind}})),
      age_(std::make_shared<Age>(
          registry.AddGauge(kAgeName,
                            "Since the Kubernetes API was last heard about a kind: a list, the "
                            "start of a watch, an event or a bookmark.",
                            {{"kind", kind}}),
          clock)) {
  registry.OnRender([weak = std::weak_ptr(age_)] {
    const auto age = weak.lock();
    if (!age) return;
    MutexLock lock(age->mutex);
    if (age->clock != nullptr) age->gauge.Set(ToSeconds(age->clock->Now() - age->contact));
  });
}

KindMetrics::~KindMetrics() {
  MutexLock lock(age_->mutex);
  age_->clock = nullptr;
}

void KindMetrics::Contact(TimePoint now) const {
  MutexLock lock(age_->mutex);
  age_->contact = now;
}

}  // namespace warmpath::k8s
