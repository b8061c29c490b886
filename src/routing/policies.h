// Objectives and model rewrites: what InferenceObjective and InferenceModelRewrite objects say, as
// plain data, wherever they came from (a file, the Kubernetes API). Immutable once published.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace warmpath::routing {

struct RewriteTarget {
  std::string model;
  uint32_t weight = 1;  // relative to the other targets of its rule
};

struct RewriteRule {
  std::vector<std::string> models;  // exact names; empty: every model
  std::vector<RewriteTarget> targets;
};

struct ModelRewrite {
  std::string name;
  int64_t created_s = 0;  // creationTimestamp, seconds since 1970; 0 = not given
  std::vector<RewriteRule> rules;
};

struct Policies {
  std::map<std::string, int32_t> priorities;  // by objective name
  std::vector<ModelRewrite> rewrites;

  // 0 for an unknown name.
  int32_t PriorityOf(std::string_view objective) const;
  struct Rewritten {
    std::string model;
    std::string rewrite;  // name of the object; "" = nothing matched
  };
  // Exact matches win over generic ones in every object; ties: the oldest object, then list order.
  // A rule without targets matches and leaves the model as it is.
  // `draw`: uniform 64 random bits for the weighted choice among targets.
  Rewritten Rewrite(std::string_view model, uint64_t draw) const;
  // A rule that matches every model: requests may leave the model out.
  bool has_generic_rule() const;
};

}  // namespace warmpath::routing
