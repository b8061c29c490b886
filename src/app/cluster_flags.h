// The flags that name a Kubernetes pool, for `serve` and `epp`: llm-d's names, checks and words.
#pragma once

#include <CLI/App.hpp>
#include <string>

#include "app/serve.h"
#include "base/result.h"

namespace warmpath::app {

struct ClusterFlags {
  std::string pool_name;
  std::string pool_namespace;
  std::string pool_group;
  std::string endpoint_selector;
  std::string endpoint_target_ports;
  std::string kubeconfig;
  bool leader_election = false;
  bool metrics_endpoint_auth = true;
};

inline constexpr const char* kKubernetesGroup = "Kubernetes";

void AddClusterFlags(CLI::App& app, ClusterFlags& flags);
// Only the endpoint picker's.
void AddElectionFlags(CLI::App& app, ClusterFlags& flags);

// What the flags ask for together with the rest: fills in `options` (cluster, pool_name,
// pool_namespace). `needed`: a pool or a selector must be given unless endpoints are named
// otherwise. Errors are usage errors in llm-d's words.
Status ApplyClusterFlags(const ClusterFlags& flags, bool needed, ServeOptions& options);

}  // namespace warmpath::app
