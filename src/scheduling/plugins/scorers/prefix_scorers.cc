// prefix-cache-scorer (today's, and the tracker of `mode: cache_tracking`) and
// precise-prefix-cache-scorer, llm-d's formulas over blocks the engine will be able to reuse,
// speculative ones included, or over what an approximate producer believes.
#include <algorithm>

#include "scheduling/plugins/plugins.h"
#include "scheduling/plugins/producers/kv_parameters.h"
#include "scheduling/prefix_source.h"

namespace warmpath::scheduling {
namespace {

// w * min(1, matched tokens / scale)^2 + (1 - w) * matched / total blocks.
class MatchRatioScorer : public Scorer {
 public:
  MatchRatioScorer(const codec::Json& parameters, const PrefixSource& source)
      : source_(source),
        weight_(NumberParameter(parameters, "matchLengthWeight", 0)),
        scale_tokens_(NumberParameter(parameters, "matchLengthScaleTokens", 8192)) {}
  bool about_prefixes() const override { return true; }
  void Score(const Request& request, std::span<const size_t> candidates, std::span<double> scores,
             std::vector<std::string>&) const override {
    size_t at = 0;
    for (const size_t i : candidates) {
      const PrefixMatch match = source_.Of(request.candidates[i]);
      if (match.total_blocks == 0) {
        scores[at++] = 0;
        continue;
      }
      const double matched = match.matched_blocks;
      const double length = std::min(1.0, matched * match.block_size / scale_tokens_);
      scores[at++] = weight_ * length * length + (1 - weight_) * matched / match.total_blocks;
    }
  }

 private:
  const PrefixSource source_;
  const double weight_;
  const double scale_tokens_;
};

// Producer and scorer in one, as llm-d's: others may name it as their producer.
class PreciseScorer final : public MatchRatioScorer, public PrefixProducer {
 public:
  explicit PreciseScorer(const PluginContext& context)
      : MatchRatioScorer(context.parameters, {}), PrefixProducer(Serves::kExact, context.slot) {}
  void Produce(Request&) const override {}
};

// Block counts, min-max normalised over the endpoints that hold anything; all equal: 1; nothing
// held: 0.
class TrackingScorer final : public Scorer {
 public:
  bool about_prefixes() const override { return true; }
  void Score(const Request& request, std::span<const size_t> candidates, std::span<double> scores,
             std::vector<std::string>&) const override {
    uint32_t min = ~0u, max = 0;
    for (const size_t i : candidates) {
      const uint32_t blocks = request.candidates[i].expected_usable_blocks;
      if (blocks == 0) continue;
      min = std::min(min, blocks);
      max = std::max(max, blocks);
    }
    size_t at = 0;
    for (const size_t i : candidates) {
      const uint32_t blocks = request.candidates[i].expected_usable_blocks;
      if (blocks == 0) {
        scores[at++] = 0;
      } else {
        scores[at++] = max == min ? 1.0 : static_cast<double>(blocks - min) / (max - min);
      }
    }
  }
};

ParameterList MatchRatioParameters() {
  return {String("prefixMatchInfoProducerName"), Number("matchLengthWeight", 0, 1),
          Number("matchLengthScaleTokens", 1)};
}

ParameterList operator+(ParameterList a, const ParameterList& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace

std::vector<PluginType> PrefixScorerTypes() {
  PluginType prefix{"prefix-cache-scorer", Role::kScorer, {}, {}, {}};
  prefix.parameters =
      MatchRatioParameters() + ParameterList{String("mode", {"cache_tracking", "estimate"}),
                                             IndexerParameters(true),
                                             KvEventsParameters(),
                                             Integer("hashBlockSize", 0),
                                             Integer("maxPrefixBlocksToMatch", 0),
                                             Integer("lruCapacityPerServer", 0)};
  prefix.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    if (StringParameter(context.parameters, "mode", "") == "cache_tracking")
      return std::make_unique<TrackingScorer>();
    WP_TRY(const PrefixSource source, PrefixSource::Resolve(context));
    return std::make_unique<MatchRatioScorer>(context.parameters, source);
  };
  prefix.references = PrefixSourceReferences;
  PluginType precise{"precise-prefix-cache-scorer", Role::kScorer, {}, {}, {}};
  precise.parameters = MatchRatioParameters() + PreciseProducerParameters(true);
  precise.note = "deprecated: use precise-prefix-cache-producer with prefix-cache-scorer";
  precise.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<PreciseScorer>(context);
  };
  return {prefix, precise};
}

}  // namespace warmpath::scheduling
