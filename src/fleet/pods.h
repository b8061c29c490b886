// Endpoints out of a Kubernetes pool: each ready pod at each of the pool's target ports. Pure
// function.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fleet/endpoint.h"
#include "k8s/pool_watch.h"

namespace warmpath::fleet {

struct PodDefaults {
  uint16_t events_port = 5557;  // dialled at each pod, plus the port's place in the list; 0: none
  uint16_t replay_port = 0;     // likewise; 0: none
  bool tls = false;             // https to the engines
};

// A pod is an endpoint when it is Ready, has an address and is not being deleted; of several with
// one address the one created last has it. With one target port its name is the pod's, with several
// `<pod>-rank-<i>`; the annotation llm-d.ai/active-ports (or its older name) restricts the ports.
// The endpoint's incarnation is the pod's UID and its restart count: another one is another
// endpoint, without what was known of the first.
std::vector<EndpointSpec> EndpointsOfPods(const k8s::PoolView& view, const PodDefaults& defaults);

}  // namespace warmpath::fleet
