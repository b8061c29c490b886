#include "routing/cluster_policies.h"

#include <utility>

namespace warmpath::routing {

Policies PoliciesOfCluster(const k8s::PoolView& view) {
  Policies policies;
  for (const auto& objective : view.objectives) {
    if (!objective->meta.deleting) policies.priorities[objective->meta.name] = objective->priority;
  }
  for (const auto& object : view.rewrites) {
    if (object->meta.deleting) continue;
    ModelRewrite rewrite{object->meta.name, object->meta.created_s, {}};
    for (const k8s::InferenceModelRewrite::Rule& rule : object->rules) {
      RewriteRule& out = rewrite.rules.emplace_back(RewriteRule{rule.models, {}});
      for (const auto& target : rule.targets) out.targets.push_back({target.model, target.weight});
    }
    policies.rewrites.push_back(std::move(rewrite));
  }
  return policies;
}

}  // namespace warmpath::routing
