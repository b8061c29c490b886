// lora-affinity-scorer and, of the first generation, lora-affinity-filter: endpoints that have the
// requested adapter loaded, then those with a free slot for it.
#include <algorithm>

#include "scheduling/plugins/plugins.h"

namespace warmpath::scheduling {
namespace {

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

const std::string& ModelOf(const Request& request) {
  return request.target_model.empty() ? request.model : request.target_model;
}

bool HasFreeSlot(const fleet::ScrapedLoad& load) {
  return load.active_adapters.size() + load.waiting_adapters.size() < load.max_adapters;
}

class LoraAffinityScorer final : public Scorer {
 public:
  void Score(const Request& request, std::span<const size_t> candidates, std::span<double> scores,
             std::vector<std::string>&) const override {
    size_t at = 0;
    for (const size_t i : candidates) {
      const fleet::ScrapedLoad& load = request.candidates[i].endpoint->load;
      if (Contains(load.active_adapters, ModelOf(request))) {
        scores[at++] = 1;
      } else if (HasFreeSlot(load)) {
        scores[at++] = 0.8;
      } else {
        scores[at++] = Contains(load.waiting_adapters, ModelOf(request)) ? 0.6 : 0;
      }
    }
  }
};

class LoraAffinityFilter final : public Filter {
 public:
  explicit LoraAffinityFilter(const codec::Json& parameters)
      : threshold_(NumberParameter(parameters, "threshold", 0.999)) {}
  void Narrow(const Request& request, std::vector<size_t>& candidates,
              uint64_t random) const override {
    std::vector<size_t> loaded, free;
    for (const size_t i : candidates) {
      const fleet::ScrapedLoad& load = request.candidates[i].endpoint->load;
      if (Contains(load.active_adapters, ModelOf(request)) ||
          Contains(load.waiting_adapters, ModelOf(request))) {
        loaded.push_back(i);
      } else if (HasFreeSlot(load)) {
        free.push_back(i);
      }
    }
    const double draw = static_cast<double>(random >> 11) * 0x1.0p-53;
    const bool take_loaded = free.empty() || (!loaded.empty() && draw < threshold_);
    candidates = take_loaded ? std::move(loaded) : std::move(free);
  }

 private:
  const double threshold_;
};

}  // namespace

std::vector<PluginType> LoraAffinityTypes() {
  PluginType scorer{"lora-affinity-scorer", Role::kScorer, {}, {}, {}};
  scorer.create = [](const PluginContext&) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<LoraAffinityScorer>();
  };
  PluginType filter{"lora-affinity-filter", Role::kFilter, {}, {}, {}};
  filter.parameters = {Number("threshold", 0, 1)};
  filter.note = "deprecated: of the first generation; use lora-affinity-scorer";
  filter.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<LoraAffinityFilter>(context.parameters);
  };
  return {scorer, filter};
}

}  // namespace warmpath::scheduling
