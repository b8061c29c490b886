// Scorers by load, with llm-d's formulas: queue-scorer, running-requests-size-scorer,
// kv-cache-utilization-scorer (kv-cache-scorer), load-aware-scorer, active-request-scorer,
// token-load-scorer.
#include <algorithm>
#include <cmath>

#include "scheduling/plugins/attributes.h"
#include "scheduling/plugins/plugins.h"

namespace warmpath::scheduling {
namespace {

// (max - x) / (max - min) over the candidates; all equal: 1.
class LowestOfAllScorer final : public Scorer {
 public:
  using Reading = double (*)(const Candidate&);
  explicit LowestOfAllScorer(Reading reading) : reading_(reading) {}
  void Score(const Request& request, std::span<const size_t> candidates, std::span<double> scores,
             std::vector<std::string>&) const override {
    double low = INFINITY, high = -INFINITY;
    for (size_t at = 0; at < candidates.size(); ++at) {
      scores[at] = reading_(request.candidates[candidates[at]]);
      low = std::min(low, scores[at]);
      high = std::max(high, scores[at]);
    }
    for (double& value : scores) value = high > low ? (high - value) / (high - low) : 1.0;
  }

 private:
  const Reading reading_;
};

// A score that depends on each endpoint alone.
class EachScorer final : public Scorer {
 public:
  using Formula = std::function<double(const Candidate&)>;
  explicit EachScorer(Formula formula) : formula_(std::move(formula)) {}
  void Score(const Request& request, std::span<const size_t> candidates, std::span<double> scores,
             std::vector<std::string>&) const override {
    size_t at = 0;
    for (const size_t i : candidates) scores[at++] = formula_(request.candidates[i]);
  }

 private:
  const Formula formula_;
};

class ActiveRequestScorer final : public Scorer {
 public:
  explicit ActiveRequestScorer(const codec::Json& parameters)
      : idle_(NumberParameter(parameters, "idleThreshold", 0)),
        max_busy_(NumberParameter(parameters, "maxBusyScore", 1)) {}
  void Score(const Request& request, std::span<const size_t> candidates, std::span<double> scores,
             std::vector<std::string>&) const override {
    double max = 0;
    for (const size_t i : candidates) max = std::max(max, Active(request.candidates[i]));
    size_t at = 0;
    for (const size_t i : candidates) {
      const double active = Active(request.candidates[i]);
      scores[at++] = active <= idle_ ? 1.0 : (max - active) / max * max_busy_;
    }
  }

 private:
  static double Active(const Candidate& candidate) {
    return static_cast<double>(std::max<int64_t>(0, candidate.inflight.requests));
  }
  const double idle_;
  const double max_busy_;
};

// Tokens in flight and those of this request that the endpoint would have to compute.
class TokenLoadScorer final : public Scorer {
 public:
  explicit TokenLoadScorer(const codec::Json& parameters)
      : threshold_(NumberParameter(parameters, "queueThresholdTokens", 4194304)) {}
  bool wants_estimated_tokens() const override { return true; }
  void Score(const Request& request, std::span<const size_t> candidates, std::span<double> scores,
             std::vector<std::string>&) const override {
    const uint64_t prompt = PromptTokens(request);
    size_t at = 0;
    for (const size_t i : candidates) {
      const Candidate& c = request.candidates[i];
      const double tokens = static_cast<double>(std::max<int64_t>(0, c.inflight.tokens)) +
                            static_cast<double>(prompt - std::min(prompt, Cached(c)));
      scores[at++] = tokens <= 0 ? 1.0 : 1 - std::min(tokens, threshold_) / threshold_;
    }
  }

 private:
  // By events where there are any, else the best that a configured producer knows.
  static uint64_t Cached(const Candidate& c) {
    if (c.exact) return c.expected_cached_tokens;
    uint64_t best = 0;
    for (const PrefixMatch& match : c.produced) {
      best = std::max(best, uint64_t{match.matched_blocks} * match.block_size);
    }
    return best;
  }
  const double threshold_;
};

PluginType ScorerType(std::string name, ParameterList parameters,
                      std::function<std::unique_ptr<Scorer>(const codec::Json&)> make) {
  PluginType type{std::move(name), Role::kScorer, std::move(parameters), {}, {}};
  type.create = [make](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    return make(context.parameters);
  };
  return type;
}

PluginType LowestType(std::string name, LowestOfAllScorer::Reading reading) {
  return ScorerType(std::move(name), {}, [reading](const codec::Json&) {
    return std::make_unique<LowestOfAllScorer>(reading);
  });
}

PluginType KvUtilizationType(std::string name) {
  return ScorerType(std::move(name), {}, [](const codec::Json&) {
    return std::make_unique<EachScorer>(
        [](const Candidate& c) { return 1 - c.endpoint->load.kv_usage; });
  });
}

}  // namespace

std::vector<PluginType> LoadScorerTypes() {
  PluginType active = ScorerType("active-request-scorer",
                                 {Number("idleThreshold", 0), Number("maxBusyScore", 0, 1),
                                  String("inFlightLoadProducerName"), DurationOf("requestTimeout")},
                                 [](const codec::Json& parameters) {
                                   return std::make_unique<ActiveRequestScorer>(parameters);
                                 });
  active.references = ReferencesIn({"inFlightLoadProducerName"});
  PluginType token_load = ScorerType(
      "token-load-scorer", {Number("queueThresholdTokens", 1), String("inFlightLoadProducerName")},
      [](const codec::Json& parameters) { return std::make_unique<TokenLoadScorer>(parameters); });
  token_load.references = ReferencesIn({"inFlightLoadProducerName"});
  return {
      LowestType("queue-scorer", [](const Candidate& c) { return c.endpoint->load.waiting; }),
      LowestType("running-requests-size-scorer",
                 [](const Candidate& c) { return c.endpoint->load.running; }),
      KvUtilizationType("kv-cache-utilization-scorer"),
      KvUtilizationType("kv-cache-scorer"),
      ScorerType("load-aware-scorer", {Number("threshold", 1)},
                 [](const codec::Json& parameters) {
                   const double threshold = NumberParameter(parameters, "threshold", 128);
                   return std::make_unique<EachScorer>([threshold](const Candidate& c) {
                     const double waiting = c.endpoint->load.waiting;
                     return waiting <= 0 ? 0.5
                                         : 0.5 * (1 - std::min(waiting, threshold) / threshold);
                   });
                 }),
      active,
      token_load,
  };
}

}  // namespace warmpath::scheduling
