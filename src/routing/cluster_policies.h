// The policies a Kubernetes pool's objects say. Pure function.
#pragma once

#include "k8s/pool_watch.h"
#include "routing/policies.h"

namespace warmpath::routing {

// Objectives by name; rewrites with what their order depends on, the oldest object first.
Policies PoliciesOfCluster(const k8s::PoolView& view);

}  // namespace warmpath::routing
