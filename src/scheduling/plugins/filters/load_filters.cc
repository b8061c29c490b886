// Filters by load: utilization-filter, endpoint-attribute-filter, and the filters of llm-d's first
// releases, low-queue-filter, least-queue-filter, least-kv-cache-filter.
#include <algorithm>
#include <cmath>
#include <functional>

#include "scheduling/plugins/attributes.h"
#include "scheduling/plugins/plugins.h"

namespace warmpath::scheduling {
namespace {

using Reading = double (*)(const Candidate&);

double ActiveRequests(const Candidate& c) {
  return static_cast<double>(std::max<int64_t>(0, c.inflight.requests));
}
double Running(const Candidate& c) {
  return c.endpoint->load.running;
}
double Waiting(const Candidate& c) {
  return c.endpoint->load.waiting;
}
double KvUsage(const Candidate& c) {
  return c.endpoint->load.kv_usage;
}

constexpr std::pair<std::string_view, Reading> kMetrics[] = {
    {"active-requests", ActiveRequests},
    {"running-requests", Running},
    {"waiting-queue", Waiting},
    {"kv-cache-utilization", KvUsage},
};

// Drops what Keep refuses; where that is everything, nothing if `fallback_on_empty`.
class FallbackFilter : public Filter {
 public:
  explicit FallbackFilter(const codec::Json& parameters)
      : fallback_on_empty_(BoolParameter(parameters, "fallbackOnEmpty", false)) {}
  void Narrow(const Request& request, std::vector<size_t>& candidates, uint64_t) const final {
    std::vector<size_t> kept;
    for (const size_t i : candidates) {
      if (Keep(request, request.candidates[i])) kept.push_back(i);
    }
    if (!kept.empty() || !fallback_on_empty_) candidates = std::move(kept);
  }

 private:
  const bool fallback_on_empty_;
};

class UtilizationFilter final : public FallbackFilter {
 public:
  explicit UtilizationFilter(const codec::Json& parameters) : FallbackFilter(parameters) {
    const codec::Json* conditions = Parameter(parameters, "conditions");
    if (conditions == nullptr) return;
    for (const auto& condition : conditions->get_array()) {
      const std::string metric = StringParameter(condition, "metric", "");
      for (const auto& [name, reading] : kMetrics) {
        if (metric == name)
          conditions_.push_back({reading, NumberParameter(condition, "maxValue", 0)});
      }
    }
  }
  bool Keep(const Request&, const Candidate& candidate) const override {
    return std::none_of(conditions_.begin(), conditions_.end(),
                        [&](const Condition& c) { return c.reading(candidate) > c.max; });
  }

 private:
  struct Condition {
    Reading reading;
    double max;
  };
  std::vector<Condition> conditions_;
};

class AttributeFilter final : public FallbackFilter {
 public:
  explicit AttributeFilter(const codec::Json& parameters)
      : FallbackFilter(parameters),
        key_(StringParameter(parameters, "attribute", "")),
        keeps_missing_(StringParameter(parameters, "onMissing", "Pass") == "Pass"),
        operation_(StringParameter(parameters, "algorithm.threshold.operator", "")),
        value_(NumberParameter(parameters, "algorithm.threshold.value", 0)) {}
  bool Keep(const Request&, const Candidate& candidate) const override {
    const auto value = AttributeOf(candidate, key_);
    if (!value) return keeps_missing_;
    if (operation_ == "LessThan") return *value < value_;
    if (operation_ == "LessThanOrEqual") return *value <= value_;
    if (operation_ == "GreaterThan") return *value > value_;
    if (operation_ == "GreaterThanOrEqual") return *value >= value_;
    if (operation_ == "Equal") return *value == value_;
    return *value != value_;
  }

 private:
  const std::string key_;
  const bool keeps_missing_;
  const std::string operation_;
  const double value_;
};

class LowQueueFilter final : public Filter {
 public:
  explicit LowQueueFilter(const codec::Json& parameters)
      : threshold_(NumberParameter(parameters, "threshold", 128)) {}
  bool Keep(const Request&, const Candidate& candidate) const override {
    return Waiting(candidate) <= threshold_;
  }

 private:
  const double threshold_;
};

// Keeps what lies in the lowest n-th of the readings' range, n being the number of candidates.
class LeastFilter final : public Filter {
 public:
  // `whole`: the n-th is rounded down.
  LeastFilter(Reading reading, bool whole) : reading_(reading), whole_(whole) {}
  void Narrow(const Request& request, std::vector<size_t>& candidates, uint64_t) const override {
    if (candidates.empty()) return;
    double min = INFINITY, max = -INFINITY;
    for (const size_t i : candidates) {
      const double value = reading_(request.candidates[i]);
      min = std::min(min, value);
      max = std::max(max, value);
    }
    double part = (max - min) / static_cast<double>(candidates.size());
    if (whole_) part = std::floor(part);
    std::erase_if(candidates,
                  [&](size_t i) { return reading_(request.candidates[i]) > min + part; });
  }

 private:
  const Reading reading_;
  const bool whole_;
};

template <typename T>
PluginType FilterOf(std::string name, ParameterList parameters) {
  PluginType type{std::move(name), Role::kFilter, std::move(parameters), {}, {}};
  type.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<T>(context.parameters);
  };
  return type;
}

PluginType LeastType(std::string name, Reading reading, bool whole) {
  PluginType type{std::move(name), Role::kFilter, {}, {}, {}};
  type.create = [reading, whole](const PluginContext&) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<LeastFilter>(reading, whole);
  };
  return type;
}

}  // namespace

std::vector<PluginType> LoadFilterTypes() {
  std::vector<std::string> metrics;
  for (const auto& [name, reading] : kMetrics) metrics.emplace_back(name);
  PluginType utilization = FilterOf<UtilizationFilter>(
      "utilization-filter",
      {Required(List("conditions", Object("", {Required(String("metric", metrics)),
                                               Required(Number("maxValue", 0))}))),
       Bool("fallbackOnEmpty"), String("inFlightLoadProducerName")});
  utilization.references = ReferencesIn({"inFlightLoadProducerName"});
  utilization.experimental = true;

  PluginType attribute = FilterOf<AttributeFilter>(
      "endpoint-attribute-filter",
      {Required(String("attribute")), String("producer"), String("onMissing", {"Pass", "Fail"}),
       Bool("fallbackOnEmpty"),
       Required(
           Object("algorithm",
                  {Required(String("type", {"threshold"})),
                   Required(Object(
                       "threshold",
                       {Required(String("operator", {"LessThan", "LessThanOrEqual", "GreaterThan",
                                                     "GreaterThanOrEqual", "Equal", "NotEqual"})),
                        Required(Number("value"))}))}))});
  attribute.note =
      "reads WaitingQueueSize, RunningRequestsSize, KVCacheUsagePercent and customMetrics; "
      "producer "
      "has no effect";
  attribute.experimental = true;

  return {utilization, attribute,
          FilterOf<LowQueueFilter>("low-queue-filter", {Number("threshold", 0)}),
          LeastType("least-queue-filter", Waiting, true),
          LeastType("least-kv-cache-filter", KvUsage, false)};
}

}  // namespace warmpath::scheduling
