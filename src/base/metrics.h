// Counters, gauges and histograms with Prometheus text output. Thin handles over prometheus-cpp:
// resolve a handle once at start, then update it from any thread.
//
// A Registry is thread-safe and outlives the handles it gave out. Each module declares its metrics
// in its own metrics.h; names are stable, help texts are part of the documentation, label values
// are bounded by the caller.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace warmpath {

using Labels = std::initializer_list<std::pair<std::string, std::string>>;

class Counter {
 public:
  void Add(double by = 1) const;
  double value() const;

 private:
  friend class Registry;
  explicit Counter(void* impl) : impl_(impl) {}
  void* impl_;
};

class Gauge {
 public:
  void Set(double value) const;
  void Add(double by) const;
  double value() const;

 private:
  friend class Registry;
  explicit Gauge(void* impl) : impl_(impl) {}
  void* impl_;
};

class Histogram {
 public:
  void Observe(double value) const;

 private:
  friend class Registry;
  explicit Histogram(void* impl) : impl_(impl) {}
  void* impl_;
};

class Registry {
 public:
  Registry();
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  // The same name and labels give the same handle. The first call for a name fixes its help text.
  Counter AddCounter(const std::string& name, const std::string& help, Labels labels = {});
  Gauge AddGauge(const std::string& name, const std::string& help, Labels labels = {});
  Histogram AddHistogram(const std::string& name, const std::string& help,
                         std::vector<double> buckets, Labels labels = {});
  // Forgets one series of a gauge (an endpoint that left).
  void RemoveGauge(const std::string& name, Labels labels);

  // Renders `new_name` a second time as `old_name`, for dashboards that know that name: series that
  // agree in the kept labels are summed. `kept_labels`: {name in the family, name in the alias}.
  // Nothing is rendered while the family does not exist, or when `old_name` is a family itself.
  using KeptLabels = std::vector<std::pair<std::string, std::string>>;
  void AddAlias(std::string old_name, std::string new_name, KeptLabels kept_labels);

  // Called before each Render, on the rendering thread: sets gauges that are read rather than kept.
  // Never removed.
  void OnRender(std::function<void()> refresh);
  // Prometheus text format 0.0.4.
  std::string Render() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmpath
