// The policies a Kubernetes pool's objects say. Pure function.
#pragma once

#include "k8s/pool_watch.h"
#include "routing/policies.h"

namespace warmpath::routing {

// Objectives by name; rewrites with the age that Policies::Rewrite ranks them by. Objects that are
// being deleted are left out.
Policies PoliciesOfCluster(const k8s::PoolView& view);

}  // namespace warmpath::routing
