#include "base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <map>
#include <sstream>

#include "base/mutex.h"

namespace warmpath {

namespace {

// Observations cost two additions: no lock, unlike the library's. What is collected meanwhile may
// lack parts of an observation under way.
class BucketCounts {
 public:
  explicit BucketCounts(std::vector<double> bounds)
      : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

  void Observe(double value) {
    const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value);
    counts_[static_cast<size_t>(bucket - bounds_.begin())].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
  }
  prometheus::ClientMetric Collect() const {
    prometheus::ClientMetric metric;
    uint64_t count = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
      count += counts_[i].load(std::memory_order_relaxed);
      metric.histogram.bucket.push_back(
          {count, i < bounds_.size() ? bounds_[i] : std::numeric_limits<double>::infinity()});
    }
    metric.histogram.sample_count = count;
    metric.histogram.sample_sum = sum_.load(std::memory_order_relaxed);
    return metric;
  }

 private:
  const std::vector<double> bounds_;
  std::vector<std::atomic<uint64_t>> counts_;  // by bucket, not cumulative
  std::atomic<double> sum_{0};
};

struct HistogramFamily {
  std::string help;
  std::map<prometheus::Labels, std::unique_ptr<BucketCounts>> series;

  prometheus::MetricFamily Collect(const std::string& name) const {
    prometheus::MetricFamily out;
    out.name = name;
    out.help = help;
    out.type = prometheus::MetricType::Histogram;
    for (const auto& [labels, counts] : series) {
      auto& metric = out.metric.emplace_back(counts->Collect());
      for (const auto& [label, value] : labels) metric.label.push_back({label, value});
    }
    return out;
  }
};

struct Alias {
  std::string new_name;
  Registry::KeptLabels kept_labels;
};

}  // namespace

struct Registry::Impl {
  prometheus::Registry registry{prometheus::Registry::InsertBehavior::Merge};
  mutable Mutex mutex;
  std::map<std::string, prometheus::Family<prometheus::Counter>*> counters GUARDED_BY(mutex);
  std::map<std::string, prometheus::Family<prometheus::Gauge>*> gauges GUARDED_BY(mutex);
  std::map<std::string, HistogramFamily> histograms GUARDED_BY(mutex);
  std::vector<std::function<void()>> refreshers GUARDED_BY(mutex);
  std::map<std::string, Alias> aliases GUARDED_BY(mutex);  // by old name
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

// Buckets of one family agree in every series.
void AddSeries(prometheus::ClientMetric& sum, const prometheus::ClientMetric& series) {
  sum.counter.value += series.counter.value;
  sum.gauge.value += series.gauge.value;
  sum.histogram.sample_count += series.histogram.sample_count;
  sum.histogram.sample_sum += series.histogram.sample_sum;
  const auto& buckets = series.histogram.bucket;
  if (sum.histogram.bucket.empty()) {
    sum.histogram.bucket = buckets;
    return;
  }
  for (size_t i = 0; i < std::min(buckets.size(), sum.histogram.bucket.size()); ++i) {
    sum.histogram.bucket[i].cumulative_count += buckets[i].cumulative_count;
  }
}

prometheus::MetricFamily Aliased(const std::string& old_name, const Alias& alias,
                                 const prometheus::MetricFamily& family) {
  std::map<std::vector<std::string>, prometheus::ClientMetric> sums;
  for (const prometheus::ClientMetric& series : family.metric) {
    std::vector<std::string> key;
    std::vector<prometheus::ClientMetric::Label> labels;
    for (const auto& [name, name_there] : alias.kept_labels) {
      const auto it = std::ranges::find(series.label, name, &prometheus::ClientMetric::Label::name);
      if (it == series.label.end()) continue;
      labels.push_back({name_there, it->value});
      key.push_back(it->value);
    }
    auto& sum = sums[key];
    sum.label = std::move(labels);
    AddSeries(sum, series);
  }
  prometheus::MetricFamily out;
  out.name = old_name;
  out.help = "Deprecated: " + alias.new_name + ".";
  out.type = family.type;
  for (auto& [key, sum] : sums) out.metric.push_back(std::move(sum));
  return out;
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
  static_cast<BucketCounts*>(impl_)->Observe(value);
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
  HistogramFamily& family =
      impl_->histograms.try_emplace(name, HistogramFamily{help, {}}).first->second;
  auto& series = family.series[ToLabels(labels)];
  if (series == nullptr) series = std::make_unique<BucketCounts>(std::move(buckets));
  return Histogram(series.get());
}

void Registry::RemoveGauge(const std::string& name, Labels labels) {
  MutexLock lock(impl_->mutex);
  const auto it = impl_->gauges.find(name);
  if (it != impl_->gauges.end()) it->second->Remove(&it->second->Add(ToLabels(labels)));
}

void Registry::AddAlias(std::string old_name, std::string new_name, KeptLabels kept_labels) {
  MutexLock lock(impl_->mutex);
  impl_->aliases[std::move(old_name)] = {std::move(new_name), std::move(kept_labels)};
}

void Registry::OnRender(std::function<void()> refresh) {
  MutexLock lock(impl_->mutex);
  impl_->refreshers.push_back(std::move(refresh));
}

std::string Registry::Render() const {
  std::vector<std::function<void()>> refreshers;
  std::map<std::string, Alias> aliases;
  {
    MutexLock lock(impl_->mutex);
    refreshers = impl_->refreshers;
    aliases = impl_->aliases;
  }
  for (const auto& refresh : refreshers) refresh();
  std::vector<prometheus::MetricFamily> families = impl_->registry.Collect();
  {
    MutexLock lock(impl_->mutex);
    for (const auto& [name, family] : impl_->histograms) families.push_back(family.Collect(name));
  }
  if (!aliases.empty()) {
    std::map<std::string, size_t> by_name;
    for (size_t i = 0; i < families.size(); ++i) by_name[families[i].name] = i;
    for (const auto& [old_name, alias] : aliases) {
      const auto it = by_name.find(alias.new_name);
      if (it == by_name.end() || by_name.contains(old_name)) continue;
      families.push_back(Aliased(old_name, alias, families[it->second]));
    }
  }
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

}  // namespace warmpath
