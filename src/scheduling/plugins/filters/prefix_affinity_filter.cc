// prefix-cache-affinity-filter: only endpoints that hold most of the prompt, unless all of them are
// so far behind others that recomputing is quicker.
#include <algorithm>
#include <cmath>

#include "scheduling/plugins/plugins.h"
#include "scheduling/prefix_source.h"

namespace warmpath::scheduling {
namespace {

class PrefixAffinityFilter final : public Filter {
 public:
  PrefixAffinityFilter(const codec::Json& parameters, PrefixSource source)
      : source_(source),
        threshold_(NumberParameter(parameters, "affinityThreshold", 0.80)),
        exploration_(NumberParameter(parameters, "explorationProbability", 0)),
        max_penalty_ms_(NumberParameter(parameters, "maxTTFTPenaltyMs", 18000)),
        throughput_(NumberParameter(parameters, "peakPrefillThroughput", 15928)) {}

  void Narrow(const Request& request, std::vector<size_t>& candidates,
              uint64_t random) const override {
    // The draw as a number in 0..1.
    if (static_cast<double>(random >> 11) * 0x1p-53 < exploration_) return;
    std::vector<size_t> sticky;
    double best_sticky = INFINITY, best_other = INFINITY;
    for (const size_t i : candidates) {
      const Candidate& c = request.candidates[i];
      const PrefixMatch match = source_.Of(c);
      const bool holds =
          match.total_blocks > 0 &&
          static_cast<double>(match.matched_blocks) / match.total_blocks >= threshold_;
      double& best = holds ? best_sticky : best_other;
      best = std::min(best, FirstTokenMs(c));
      if (holds) sticky.push_back(i);
    }
    if (sticky.empty() || sticky.size() == candidates.size()) return;
    if (max_penalty_ms_ > 0 && best_sticky - best_other > max_penalty_ms_) return;
    candidates = std::move(sticky);
  }

 private:
  double FirstTokenMs(const Candidate& c) const {
    return static_cast<double>(std::max<int64_t>(0, c.inflight.tokens)) / throughput_ * 1000;
  }

  const PrefixSource source_;
  const double threshold_;
  const double exploration_;
  const double max_penalty_ms_;  // 0: no limit
  const double throughput_;      // tokens per second
};

}  // namespace

std::vector<PluginType> PrefixAffinityFilterTypes() {
  PluginType type{"prefix-cache-affinity-filter", Role::kFilter, {}, {}, {}};
  type.parameters = {Number("affinityThreshold", 0, 1),
                     Number("explorationProbability", 0, 1),
                     Number("maxTTFTPenaltyMs", 0),
                     String("ttftSource"),
                     Number("peakPrefillThroughput", 1e-9),
                     String("prefixMatchInfoProducerName"),
                     String("inFlightLoadProducerName"),
                     Refused("latencyPredictionInfoProducerName",
                             "latencies are not predicted here: leave it out")};
  type.references =
      [in_flight = ReferencesIn({"inFlightLoadProducerName"})](const codec::Json& parameters) {
        std::vector<std::string> names = PrefixSourceReferences(parameters);
        for (std::string& name : in_flight(parameters)) names.push_back(std::move(name));
        return names;
      };
  type.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    const std::string source =
        StringParameter(context.parameters, "ttftSource", "prefillThroughput");
    if (source == "latencyPredictor") {
      return Fail(Code::kUnsupported,
                  "ttftSource: 'latencyPredictor' is not available: latencies are not predicted "
                  "here, use prefillThroughput");
    }
    if (source != "prefillThroughput") {
      return Fail(Code::kInvalidArgument,
                  "ttftSource: '" + source + "' is unknown; allowed: prefillThroughput");
    }
    WP_TRY(const PrefixSource prefixes, PrefixSource::Resolve(context));
    return std::make_unique<PrefixAffinityFilter>(context.parameters, prefixes);
  };
  return {type};
}

}  // namespace warmpath::scheduling
