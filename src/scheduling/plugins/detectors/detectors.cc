// Saturation detectors, llm-d's formulas. Both are filters too: they drop endpoints that are over
// their limits by more than `headroom`.
//   utilization-detector: mean over the endpoints of max(waiting / queueDepthThreshold, KV usage /
//     kvCacheUtilThreshold); an endpoint without fresh figures counts 1
//   concurrency-detector: requests, tokens: what is in flight / what may be; hybrid: mean over the
//     endpoints of the larger ratio
// No endpoints: 1.
#include <algorithm>
#include <cmath>

#include "scheduling/plugins/plugins.h"

namespace warmpath::scheduling {
namespace {

class UtilizationDetector final : public Detector {
 public:
  explicit UtilizationDetector(const PluginContext& context)
      : clock_(context.clock),
        queue_(NumberParameter(context.parameters, "queueDepthThreshold", 5)),
        kv_(NumberParameter(context.parameters, "kvCacheUtilThreshold", 0.8)),
        scrape_interval_(context.scrape_interval),
        stale_(DurationParameter(context.parameters, "metricsStalenessThreshold")
                   .value_or(std::chrono::milliseconds(200))),
        limit_(1 + NumberParameter(context.parameters, "headroom", 0)) {}

  double Saturation(std::span<const Candidate> candidates) const override {
    if (candidates.empty()) return 1;
    const TimePoint now = clock_.Now();
    double sum = 0;
    for (const Candidate& c : candidates) sum += Fresh(c, now) ? Utilization(c) : 1.0;
    return sum / static_cast<double>(candidates.size());
  }
  void Narrow(const Request& request, std::vector<size_t>& candidates, uint64_t) const override {
    const TimePoint now = clock_.Now();
    std::erase_if(candidates, [&](size_t i) {
      const Candidate& c = request.candidates[i];
      return Fresh(c, now) && Utilization(c) > limit_;
    });
  }

 private:
  // llm-d scrapes all the time; here a pause between two scrapes is not yet silence.
  bool Fresh(const Candidate& c, TimePoint now) const {
    const fleet::ScrapedLoad& load = c.endpoint->load;
    return load.at != TimePoint{} &&
           now - load.at <= std::max(scrape_interval_, load.again) + stale_;
  }
  double Utilization(const Candidate& c) const {
    const double value =
        std::max(c.endpoint->load.waiting / queue_, c.endpoint->load.kv_usage / kv_);
    return std::isfinite(value) ? value : 1.0;
  }

  const Clock& clock_;
  const double queue_;
  const double kv_;
  const Duration scrape_interval_;
  const Duration stale_;
  const double limit_;
};

class ConcurrencyDetector final : public Detector {
 public:
  explicit ConcurrencyDetector(const codec::Json& parameters)
      : requests_(NumberParameter(parameters, "maxConcurrency", 100)),
        tokens_(NumberParameter(parameters, "maxTokenConcurrency", 1'000'000)),
        limit_(1 + NumberParameter(parameters, "headroom", 0)) {
    const std::string mode = StringParameter(parameters, "concurrencyMode", "requests");
    by_requests_ = mode != "tokens";
    by_tokens_ = mode != "requests";
  }

  double Saturation(std::span<const Candidate> candidates) const override {
    if (candidates.empty()) return 1;
    // The limits are the same everywhere, so that the ratio of the sums is the mean of the ratios.
    double sum = 0;
    for (const Candidate& c : candidates) sum += Ratio(c);
    return sum / static_cast<double>(candidates.size());
  }
  bool Keep(const Request&, const Candidate& candidate) const override {
    return Ratio(candidate) <= limit_;
  }

 private:
  double Ratio(const Candidate& c) const {
    const auto of = [](int64_t value, double limit) {
      return static_cast<double>(std::max<int64_t>(0, value)) / limit;
    };
    return std::max(by_requests_ ? of(c.inflight.requests, requests_) : 0.0,
                    by_tokens_ ? of(c.inflight.tokens, tokens_) : 0.0);
  }

  const double requests_;
  const double tokens_;
  const double limit_;
  bool by_requests_ = true;
  bool by_tokens_ = false;
};

}  // namespace

std::vector<PluginType> DetectorTypes() {
  // A threshold of 0 would divide by it.
  constexpr double kSmallest = 1e-9;
  PluginType utilization{"utilization-detector", Role::kDetector, {}, {}, {}};
  utilization.parameters = {Number("queueDepthThreshold", kSmallest),
                            Number("kvCacheUtilThreshold", kSmallest, 1),
                            DurationOf("metricsStalenessThreshold"), Number("headroom", 0)};
  utilization.note =
      "metricsStalenessThreshold counts from the moment the next scrape was due: engines without "
      "traffic are scraped less often";
  utilization.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<UtilizationDetector>(context);
  };
  PluginType concurrency{"concurrency-detector", Role::kDetector, {}, {}, {}};
  concurrency.parameters = {Number("maxConcurrency", kSmallest),
                            Number("maxTokenConcurrency", kSmallest),
                            String("concurrencyMode", {"requests", "tokens", "hybrid"}),
                            Number("headroom", 0), String("inFlightLoadProducerName")};
  concurrency.references = ReferencesIn({"inFlightLoadProducerName"});
  concurrency.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<ConcurrencyDetector>(context.parameters);
  };
  return {utilization, concurrency};
}

}  // namespace warmpath::scheduling
