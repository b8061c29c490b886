#include "routing/cluster_policies.h"

#include <gtest/gtest.h>

#include <memory>

namespace warmpath::routing {
namespace {

std::shared_ptr<k8s::InferenceModelRewrite> RewriteTo(const std::string& name, int64_t created,
                                                      const std::string& model) {
  auto rewrite = std::make_shared<k8s::InferenceModelRewrite>();
  rewrite->meta.name = name;
  rewrite->meta.created_s = created;
  rewrite->rules = {{{"alias"}, {{model, 1}}}};
  return rewrite;
}

TEST(ClusterPolicies, SayWhatTheObjectsSay) {
  k8s::PoolView view;
  auto objective = std::make_shared<k8s::InferenceObjective>();
  objective->meta.name = "batch";
  objective->priority = -5;
  view.objectives = {objective};
  view.rewrites = {RewriteTo("a-newer", 200, "wrong"), RewriteTo("b-older", 100, "right")};

  const Policies policies = PoliciesOfCluster(view);
  EXPECT_EQ(policies.PriorityOf("batch"), -5);
  EXPECT_EQ(policies.PriorityOf("other"), 0);
  EXPECT_EQ(policies.Rewrite("alias", 0).model, "right");
  EXPECT_EQ(policies.Rewrite("alias", 0).rewrite, "b-older");
  EXPECT_EQ(policies.Rewrite("another", 0).model, "another");
}

TEST(ClusterPolicies, ForgetObjectsThatAreBeingDeleted) {
  k8s::PoolView view;
  auto rewrite = RewriteTo("going", 1, "gone");
  rewrite->meta.deleting = true;
  view.rewrites = {rewrite};
  EXPECT_EQ(PoliciesOfCluster(view).Rewrite("alias", 0).model, "alias");
}

}  // namespace
}  // namespace warmpath::routing
