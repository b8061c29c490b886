// Scorers by what endpoints report or are labelled with, llm-d's formulas:
// endpoint-attribute-scorer, header-label-affinity-scorer, context-length-aware (a filter too where
// enableFiltering says so).
#include <algorithm>
#include <cmath>
#include <optional>

#include "base/units.h"
#include "scheduling/plugins/attributes.h"
#include "scheduling/plugins/plugins.h"
#include "scheduling/plugins/request_text.h"

namespace warmpath::scheduling {
namespace {

Error Wrong(std::string message) {
  return Error{.code = Code::kInvalidArgument, .message = std::move(message)};
}

struct Range {
  double min = 0, max = 0;
};

// Linear between the ends of a range: a fixed one, else that of the candidates.
class AttributeScorer final : public Scorer {
 public:
  static Result<std::unique_ptr<Plugin>> Make(const PluginContext& context) {
    const codec::Json& parameters = context.parameters;
    const std::string key = StringParameter(parameters, "attributeKey", "");
    if (key.empty()) return tl::unexpected(Wrong("attributeKey: must not be empty"));
    std::optional<Range> fixed;
    if (Parameter(parameters, "algorithm.normalization.fixedRange") != nullptr) {
      fixed = Range{NumberParameter(parameters, "algorithm.normalization.fixedRange.min", 0),
                    NumberParameter(parameters, "algorithm.normalization.fixedRange.max", 0)};
      if (fixed->min >= fixed->max) {
        return tl::unexpected(
            Wrong("algorithm.normalization.fixedRange: min must be less than max"));
      }
      if (Parameter(parameters, "algorithm.normalization.adaptiveRange") != nullptr) {
        return tl::unexpected(
            Wrong("algorithm.normalization: give fixedRange or adaptiveRange, not both"));
      }
    }
    const bool lower =
        StringParameter(parameters, "algorithm.type", "") == "linear_lower_is_better";
    return std::make_unique<AttributeScorer>(key, lower, fixed);
  }
  AttributeScorer(std::string key, bool lower_is_better, std::optional<Range> fixed)
      : key_(std::move(key)), lower_is_better_(lower_is_better), fixed_(fixed) {}

  void Score(const Request& request, std::span<const size_t> candidates, std::span<double> scores,
             std::vector<std::string>&) const override {
    std::vector<std::optional<double>> values;
    std::optional<Range> range = fixed_;
    for (const size_t i : candidates) {
      values.push_back(AttributeOf(request.candidates[i], key_));
      if (fixed_ || !values.back()) continue;
      const double value = *values.back();
      range = range ? Range{std::min(range->min, value), std::max(range->max, value)}
                    : Range{value, value};
    }
    size_t at = 0;
    for (const auto& value : values) {
      if (!value) {
        scores[at++] = 0;
      } else if (range->max <= range->min) {
        scores[at++] = 1;
      } else {
        const double part = std::clamp((*value - range->min) / (range->max - range->min), 0.0, 1.0);
        scores[at++] = lower_is_better_ ? 1 - part : part;
      }
    }
  }

 private:
  const std::string key_;
  const bool lower_is_better_;
  const std::optional<Range> fixed_;
};

// 1 where the request's header says what the endpoint's label says.
class HeaderLabelScorer final : public Scorer {
 public:
  static Result<std::unique_ptr<Plugin>> Make(const PluginContext& context) {
    const std::string header = StringParameter(context.parameters, "headerName", "");
    const std::string label = StringParameter(context.parameters, "labelKey", "");
    if (header.empty()) return tl::unexpected(Wrong("headerName: must not be empty"));
    if (label.empty()) return tl::unexpected(Wrong("labelKey: must not be empty"));
    return std::make_unique<HeaderLabelScorer>(header, label);
  }
  HeaderLabelScorer(std::string header, std::string label)
      : header_(std::move(header)), label_(std::move(label)) {}

  void Score(const Request& request, std::span<const size_t> candidates, std::span<double> scores,
             std::vector<std::string>&) const override {
    const std::string_view wanted = HeaderOf(request, header_);
    size_t at = 0;
    for (const size_t i : candidates) {
      const std::string* label = FindLabel(request.candidates[i], label_);
      scores[at++] = !wanted.empty() && label != nullptr && *label == wanted ? 1 : 0;
    }
  }

 private:
  const std::string header_;
  const std::string label_;
};

// A label "min-max" tells for which prompt lengths, in tokens, an endpoint is meant.
class ContextLengthAware final : public Filter, public Scorer {
 public:
  explicit ContextLengthAware(const codec::Json& parameters)
      : label_(StringParameter(parameters, "label", "llm-d.ai/context-length-range")),
        filters_(BoolParameter(parameters, "enableFiltering", false)) {}

  bool wants_estimated_tokens() const override { return true; }

  void Narrow(const Request& request, std::vector<size_t>& candidates, uint64_t) const override {
    if (!filters_) return;
    const auto length = static_cast<double>(PromptTokens(request));
    std::erase_if(candidates, [&](size_t i) {
      const std::string* label = FindLabel(request.candidates[i], label_);
      if (label == nullptr) return false;
      const auto range = Parse(*label);
      return !range || length < range->min || length > range->max;
    });
  }

  void Score(const Request& request, std::span<const size_t> candidates, std::span<double> scores,
             std::vector<std::string>&) const override {
    const auto length = static_cast<double>(PromptTokens(request));
    size_t at = 0;
    for (const size_t i : candidates) {
      const std::string* label = FindLabel(request.candidates[i], label_);
      const auto range = label == nullptr ? std::nullopt : Parse(*label);
      scores[at++] = label == nullptr ? 0.5 : range ? Fit(length, *range) : 0.0;
    }
  }

 private:
  static std::optional<Range> Parse(std::string_view text) {
    const size_t dash = text.find('-');
    if (dash == std::string_view::npos) return std::nullopt;
    const auto min = ParseInt(Trim(text.substr(0, dash)));
    const auto max = ParseInt(Trim(text.substr(dash + 1)));
    if (!min || !max || *min < 0 || *max < *min) return std::nullopt;
    return Range{static_cast<double>(*min), static_cast<double>(*max)};
  }
  static double Fit(double length, const Range& range) {
    if (length < range.min) return 0.3 / (1 + (range.min - length) / 1000);
    if (length > range.max) return 0.3 / (1 + (length - range.max) / 1000);
    const double width = range.max - range.min;
    if (width <= 0) return 1;
    return 0.3 + 0.7 * (0.7 / (1 + width / 10000) + 0.3 * (range.max - length) / width);
  }

  const std::string label_;
  const bool filters_;
};

}  // namespace

std::vector<PluginType> AttributeScorerTypes() {
  PluginType attribute{"endpoint-attribute-scorer", Role::kScorer, {}, {}, {}};
  attribute.parameters = {
      Required(String("attributeKey")), String("producer"),
      Required(
          Object("algorithm",
                 {Required(String("type", {"linear_lower_is_better", "linear_higher_is_better"})),
                  Object("normalization",
                         {Object("fixedRange", {Required(Number("min")), Required(Number("max"))}),
                          Object("adaptiveRange", {})})}))};
  attribute.note =
      "reads WaitingQueueSize, RunningRequestsSize, KVCacheUsagePercent and customMetrics; "
      "producer "
      "has no effect";
  attribute.experimental = true;
  attribute.create = AttributeScorer::Make;

  PluginType header{"header-label-affinity-scorer", Role::kScorer, {}, {}, {}};
  header.parameters = {Required(String("headerName")), Required(String("labelKey"))};
  header.experimental = true;
  header.create = HeaderLabelScorer::Make;

  PluginType length{"context-length-aware", Role::kScorer, {}, {}, {}};
  length.parameters = {String("label"), Bool("enableFiltering")};
  length.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<ContextLengthAware>(context.parameters);
  };
  return {attribute, header, length};
}

}  // namespace warmpath::scheduling
