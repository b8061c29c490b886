#include "base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <map>
#include <sstream>

#include "base/mutex.h"

namespace warmpath {

struct Registry::Impl {
  prometheus::Registry registry{prometheus::Registry::InsertBehavior::Merge};
  mutable Mutex mutex;
  std::map<std::string, prometheus::Family<prometheus::Counter>*> counters GUARDED_BY(mutex);
  std::map<std::string, prometheus::Family<prometheus::Gauge>*> gauges GUARDED_BY(mutex);
  std::map<std::string, prometheus::Family<prometheus::Histogram>*> histograms GUARDED_BY(mutex);
  std::vector<std::function<void()>> refreshers GUARDED_BY(mutex);
};

namespace {

prometheus::Labels ToLabels(Labels labels) {
  return {labels.begin(), labels.end()};
}

// The family of that name, made on first use.
template <typename Family, typename Builder>
Family& FamilyOf(std::map<std::string, Family*>& families, Builder builder,
                 prometheus::Registry& registry, const std::string& name, const std::string& help) {
  auto [it, inserted] = families.try_emplace(name, nullptr);
  if (inserted) it->second = &builder.Name(name).Help(help).Register(registry);
  return *it->second;
}

}  // namespace

void Counter::Add(double by) const {
  static_cast<prometheus::Counter*>(impl_)->Increment(by);
}
double Counter::value() const {
  return static_cast<prometheus::Counter*>(impl_)->Value();
}
void Gauge::Set(double value) const {
  static_cast<prometheus::Gauge*>(impl_)->Set(value);
}
void Gauge::Add(double by) const {
  static_cast<prometheus::Gauge*>(impl_)->Increment(by);
}
double Gauge::value() const {
  return static_cast<prometheus::Gauge*>(impl_)->Value();
}
void Histogram::Observe(double value) const {
  static_cast<prometheus::Histogram*>(impl_)->Observe(value);
}

Registry::Registry() : impl_(std::make_unique<Impl>()) {}
Registry::~Registry() = default;

Counter Registry::AddCounter(const std::string& name, const std::string& help, Labels labels) {
  MutexLock lock(impl_->mutex);
  auto& family = FamilyOf(impl_->counters, prometheus::BuildCounter(), impl_->registry, name, help);
  return Counter(&family.Add(ToLabels(labels)));
}

Gauge Registry::AddGauge(const std::string& name, const std::string& help, Labels labels) {
  MutexLock lock(impl_->mutex);
  auto& family = FamilyOf(impl_->gauges, prometheus::BuildGauge(), impl_->registry, name, help);
  return Gauge(&family.Add(ToLabels(labels)));
}

Histogram Registry::AddHistogram(const std::string& name, const std::string& help,
                                 std::vector<double> buckets, Labels labels) {
  MutexLock lock(impl_->mutex);
  auto& family =
      FamilyOf(impl_->histograms, prometheus::BuildHistogram(), impl_->registry, name, help);
  return Histogram(
      &family.Add(ToLabels(labels), prometheus::Histogram::BucketBoundaries(std::move(buckets))));
}

void Registry::RemoveGauge(const std::string& name, Labels labels) {
  MutexLock lock(impl_->mutex);
  const auto it = impl_->gauges.find(name);
  if (it != impl_->gauges.end()) it->second->Remove(&it->second->Add(ToLabels(labels)));
}

void Registry::OnRender(std::function<void()> refresh) {
  MutexLock lock(impl_->mutex);
  impl_->refreshers.push_back(std::move(refresh));
}

std::string Registry::Render() const {
  std::vector<std::function<void()>> refreshers;
  {
    MutexLock lock(impl_->mutex);
    refreshers = impl_->refreshers;
  }
  for (const auto& refresh : refreshers) refresh();
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, impl_->registry.Collect());
  return out.str();
}

}  // namespace warmpath
