#include "fleet/pods.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "base/units.h"
#include "fleet/endpoint_text.h"

namespace warmpath::fleet {
namespace {

// The first that is given counts.
constexpr const char* kActivePorts[] = {"llm-d.ai/active-ports",
                                        "inference.networking.k8s.io/active-ports"};

// The ports an annotation leaves; nullopt: all.
std::optional<std::vector<uint16_t>> ActivePorts(const k8s::Pod& pod) {
  for (const char* key : kActivePorts) {
    const auto annotation = pod.meta.annotations.find(key);
    if (annotation == pod.meta.annotations.end()) continue;
    std::vector<uint16_t> ports;
    for (const std::string_view text : Split(annotation->second, ',')) {
      const auto port = ParseInt(Trim(text));
      if (port && *port >= 1 && *port <= 65535) ports.push_back(static_cast<uint16_t>(*port));
    }
    return ports;
  }
  return std::nullopt;
}

// Whether `a` is the one that has their common address: the API server may still show a pod as
// ready whose node is gone and whose address was given away.
bool Younger(const k8s::Pod& a, const k8s::Pod& b) {
  return std::pair(a.meta.created_s, a.meta.name) > std::pair(b.meta.created_s, b.meta.name);
}

std::string ZmqAddress(const std::string& ip, uint16_t port, size_t rank) {
  const size_t number = port + rank;
  if (port == 0 || number > 65535) return "";
  return "tcp://" + net::HostPort{ip, static_cast<uint16_t>(number)}.ToString();
}

}  // namespace

std::vector<EndpointSpec> EndpointsOfPods(const k8s::PoolView& view, const PodDefaults& defaults) {
  std::vector<EndpointSpec> specs;
  if (!view.pool_exists) return specs;
  struct Candidate {
    const k8s::Pod* pod;
    std::string ip;
  };
  std::vector<Candidate> pods;
  std::unordered_map<std::string, const k8s::Pod*> owners;
  for (const auto& pod : view.pods) {
    if (!pod->serving()) continue;
    auto ip = CanonicalIp(pod->ip);
    if (!ip) continue;
    const auto [owner, is_first] = owners.emplace(*ip, pod.get());
    if (!is_first && Younger(*pod, *owner->second)) owner->second = pod.get();
    pods.push_back({pod.get(), std::move(*ip)});
  }
  const bool several = view.target_ports.size() > 1;
  specs.reserve(pods.size() * view.target_ports.size());
  for (const auto& [pod, ip] : pods) {
    if (owners[ip] != pod) continue;
    const auto active = ActivePorts(*pod);
    for (size_t rank = 0; rank < view.target_ports.size(); ++rank) {
      const uint16_t port = view.target_ports[rank];
      if (active && std::ranges::find(*active, port) == active->end()) continue;
      EndpointSpec& spec = specs.emplace_back();
      spec.name = several ? fmt::format("{}-rank-{}", pod->meta.name, rank) : pod->meta.name;
      if (!pod->meta.ns.empty()) spec.ns = pod->meta.ns;
      spec.url.tls = defaults.tls;
      spec.url.address = {ip, port};
      spec.events = ZmqAddress(ip, defaults.events_port, rank);
      spec.replay = ZmqAddress(ip, defaults.replay_port, rank);
      spec.labels = pod->meta.labels;
      spec.incarnation = fmt::format("{}#{}", pod->meta.uid, pod->restarts);
    }
  }
  return specs;
}

}  // namespace warmpath::fleet
