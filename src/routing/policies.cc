#include "routing/policies.h"

#include <algorithm>
#include <numeric>

namespace warmpath::routing {
namespace {

// Smaller is older; an object that does not say when it was made is younger than all that do.
uint64_t AgeOrder(const ModelRewrite& rewrite) {
  return rewrite.created_s > 0 ? static_cast<uint64_t>(rewrite.created_s) : UINT64_MAX;
}

const std::string& Draw(const std::vector<RewriteTarget>& targets, uint64_t draw) {
  const uint64_t sum = std::accumulate(
      targets.begin(), targets.end(), uint64_t{0},
      [](uint64_t total, const RewriteTarget& target) { return total + target.weight; });
  if (sum == 0) return targets[draw % targets.size()].model;
  uint64_t left = draw % sum;
  for (const RewriteTarget& target : targets) {
    if (left < target.weight) return target.model;
    left -= target.weight;
  }
  return targets.back().model;
}

}  // namespace

int32_t Policies::PriorityOf(std::string_view objective) const {
  if (objective.empty() || priorities.empty()) return 0;
  const auto it = priorities.find(std::string(objective));
  return it == priorities.end() ? 0 : it->second;
}

Policies::Rewritten Policies::Rewrite(std::string_view model, uint64_t draw) const {
  const ModelRewrite* best = nullptr;
  const RewriteRule* best_rule = nullptr;
  bool best_exact = false;
  for (const ModelRewrite& rewrite : rewrites) {
    for (const RewriteRule& rule : rewrite.rules) {
      const bool generic = rule.models.empty();
      if (!generic && std::find(rule.models.begin(), rule.models.end(), model) == rule.models.end())
        continue;
      const bool better = best == nullptr || (!generic && !best_exact) ||
                          (!generic == best_exact && AgeOrder(rewrite) < AgeOrder(*best));
      if (!better) continue;
      best = &rewrite;
      best_rule = &rule;
      best_exact = !generic;
    }
  }
  if (best == nullptr || best_rule->targets.empty()) return {std::string(model), ""};
  return {Draw(best_rule->targets, draw), best->name};
}

bool Policies::has_generic_rule() const {
  return std::any_of(rewrites.begin(), rewrites.end(), [](const ModelRewrite& rewrite) {
    return std::any_of(rewrite.rules.begin(), rewrite.rules.end(),
                       [](const RewriteRule& rule) { return rule.models.empty(); });
  });
}

}  // namespace warmpath::routing
