#include "app/cluster_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "app/cli_flags.h"
#include "config/endpoint_picker_config.h"
#include "k8s/selector.h"

namespace warmpath::app {
namespace {

constexpr size_t kMaxTargetPorts = 8;

tl::unexpected<Error> Usage(std::string message) {
  return Fail(Code::kInvalidArgument, std::move(message));
}

std::string FromEnvironment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

Result<std::vector<uint16_t>> ParseTargetPorts(const std::string& text) {
  std::vector<uint16_t> ports;
  for (const std::string_view part : Split(text, ',')) {
    const auto port = ParseInt(Trim(part));
    if (!port || *port < 1 || *port > 65535) {
      return Usage(fmt::format("--endpoint-target-ports {}: {} is not a port", JsonQuote(text),
                               JsonQuote(part)));
    }
    const auto number = static_cast<uint16_t>(*port);
    if (std::find(ports.begin(), ports.end(), number) == ports.end()) ports.push_back(number);
  }
  if (ports.size() <= kMaxTargetPorts) return ports;
  return Usage(fmt::format("--endpoint-target-ports {}: at most {} ports", JsonQuote(text),
                           kMaxTargetPorts));
}

// Whether the configuration itself says where endpoints come from.
Result<bool> ConfigDiscovers(const ServeOptions& o) {
  const config::LoadOptions load{o.allow_experimental_plugins};
  if (o.config_file.empty() == o.config_text.empty()) return false;
  auto loaded = o.config_file.empty() ? config::LoadConfigText(o.config_text, "--config-text", load)
                                      : config::LoadConfigFile(o.config_file, load);
  if (!loaded) return tl::unexpected(loaded.error());
  return !loaded->discovery_file.empty();
}

// The Deployment's name, from its pod's: NAME-HASH-HASH. "" where it is not so.
std::string DeploymentOf(const std::string& pod) {
  const size_t last = pod.rfind('-');
  const size_t before = last == std::string::npos || last == 0 ? last : pod.rfind('-', last - 1);
  return before == std::string::npos ? "" : pod.substr(0, before);
}

}  // namespace

void AddClusterFlags(CLI::App& app, ClusterFlags& c) {
  app.add_option("--pool-name", c.pool_name,
                 "InferencePool whose pods are the endpoints; with --endpoint or --endpoints-file "
                 "only a name in metrics")
      ->group(kKubernetesGroup);
  app.add_option("--pool-namespace", c.pool_namespace,
                 "its namespace; else NAMESPACE of the environment, else \"default\"")
      ->group(kKubernetesGroup);
  app.add_option("--pool-group", c.pool_group, "its API group")
      ->check(CLI::IsMember({"inference.networking.k8s.io", "inference.networking.x-k8s.io"}))
      ->default_str("inference.networking.k8s.io")
      ->group(kKubernetesGroup);
  app.add_option("--endpoint-selector", c.endpoint_selector,
                 "label selector of the pods, instead of --pool-name; needs no custom resource")
      ->type_name("SELECTOR")
      ->group(kKubernetesGroup);
  app.add_option("--endpoint-target-ports", c.endpoint_target_ports,
                 "1 to 8 ports of each pod, comma separated; with --endpoint-selector")
      ->type_name("PORTS")
      ->group(kKubernetesGroup);
  app.add_option("--kubeconfig", c.kubeconfig,
                 "how to reach the API; else KUBECONFIG, the pod's service account, "
                 "~/.kube/config")
      ->type_name("FILE")
      ->group(kKubernetesGroup);
}

void AddElectionFlags(CLI::App& app, ClusterFlags& c) {
  app.add_flag("--ha-enable-leader-election", c.leader_election,
               "serve on one replica at a time, by a Lease")
      ->group(kKubernetesGroup);
  app.add_flag("--metrics-endpoint-auth", c.metrics_endpoint_auth,
               "ask the Kubernetes API who may read the metrics port; off without a cluster")
      ->default_str("true")
      ->group(kKubernetesGroup);
}

Status ApplyClusterFlags(const ClusterFlags& c, bool needed, ServeOptions& o) {
  std::string ns = c.pool_namespace;
  if (ns.empty()) ns = FromEnvironment("NAMESPACE");
  if (ns.empty()) ns = "default";
  o.pool_namespace = ns;

  ClusterOptions cluster;
  if (!c.endpoint_selector.empty()) {
    if (auto parsed = k8s::LabelSelector::Parse(c.endpoint_selector); !parsed) {
      return Fail(parsed.error(), "--endpoint-selector");
    }
    if (c.endpoint_target_ports.empty()) {
      return Usage("--endpoint-selector needs --endpoint-target-ports");
    }
    WP_TRY(cluster.pool.target_ports, ParseTargetPorts(c.endpoint_target_ports));
  }
  bool local = !o.endpoints.empty() || !o.endpoints_file.empty();
  if (!local) {
    WP_TRY(local, ConfigDiscovers(o));
  }
  if (local && !c.endpoint_selector.empty()) {
    return Usage(
        "--endpoint-selector: endpoints are named by --endpoint, --endpoints-file or the "
        "configuration already; leave one out");
  }
  const bool one = c.pool_name.empty() != c.endpoint_selector.empty();
  const bool none = c.pool_name.empty() && c.endpoint_selector.empty();
  if (!one && !(none && (local || !needed))) {
    return Usage(
        "either pool-name or endpoint-selector must be set; without Kubernetes, --endpoint or "
        "--endpoints-file instead");
  }
  const std::string pod = FromEnvironment("POD_NAME");
  if (!c.pool_name.empty()) {
    o.pool_name = c.pool_name;
  } else if (!c.endpoint_selector.empty()) {
    const std::string deployment = DeploymentOf(pod);
    if (deployment.empty() && c.leader_election) {
      return Usage(
          "--ha-enable-leader-election with --endpoint-selector: POD_NAME of the environment must "
          "be the pod's name, DEPLOYMENT-HASH-HASH; the Lease is named after the Deployment");
    }
    o.pool_name = deployment.empty() ? "epp" : deployment;
  }
  if (local || none) {
    if (!c.leader_election) return {};
    return Usage(
        "--ha-enable-leader-election needs Kubernetes discovery: --pool-name or "
        "--endpoint-selector, and no --endpoint or --endpoints-file");
  }
  cluster.kubeconfig = c.kubeconfig;
  cluster.pool.ns = ns;
  cluster.pool.pool_name = c.pool_name;
  if (!c.pool_group.empty()) cluster.pool.pool_group = c.pool_group;
  cluster.pool.selector = c.endpoint_selector;
  cluster.elect_leader = c.leader_election;
  cluster.lease_pool = o.pool_name;
  cluster.pod_name = pod;
  cluster.review_metrics_access = c.metrics_endpoint_auth;
  o.cluster = std::move(cluster);
  return {};
}

}  // namespace warmpath::app
