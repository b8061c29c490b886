#include "k8s/cluster.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cstdlib>

#include "base/units.h"
#include "k8s/kubeconfig.h"
#include "net/small_file.h"

namespace warmpath::k8s {
namespace {

constexpr size_t kMaxKubeconfig = size_t{4} << 20;
constexpr size_t kMaxNamespace = 4 << 10;

bool Exists(const std::string& path) {
  return access(path.c_str(), F_OK) == 0;
}

std::string TokenPath(const Surroundings& surroundings) {
  return surroundings.service_account_dir + "/token";
}

std::string HomeConfig(const Surroundings& surroundings) {
  return surroundings.home.empty() ? "" : surroundings.home + "/.kube/config";
}

Result<ClusterConfig> FromFile(const std::string& path) {
  WP_TRY(std::string text, net::ReadSmallFile(path, kMaxKubeconfig));
  return ReadKubeconfig({{path, std::move(text)}});
}

// As kubectl: files of the list that do not exist are passed over.
Result<ClusterConfig> FromList(const std::string& list) {
  std::vector<KubeconfigFile> files;
  for (const std::string_view entry : Split(list, ':')) {
    if (entry.empty()) continue;
    const std::string path(entry);
    auto text = net::ReadSmallFile(path, kMaxKubeconfig);
    if (text) {
      files.push_back({path, std::move(*text)});
    } else if (text.error().code != Code::kNotFound) {
      return Fail(text.error(), "KUBECONFIG");
    }
  }
  if (files.empty()) {
    return Fail(Code::kNotFound, fmt::format("KUBECONFIG: none of its files exists: {}", list));
  }
  return ReadKubeconfig(files);
}

Result<ClusterConfig> InCluster(const Surroundings& surroundings) {
  ClusterConfig config;
  config.source = "in-cluster";
  config.server.tls = true;
  config.server.address.host = surroundings.env("KUBERNETES_SERVICE_HOST");
  const std::string port = surroundings.env("KUBERNETES_SERVICE_PORT");
  const auto number = port.empty() ? Result<int64_t>(443) : ParseInt(port);
  if (!number || *number < 1 || *number > 65535) {
    return Fail(Code::kInvalidArgument,
                fmt::format("in-cluster: KUBERNETES_SERVICE_PORT is no port: \"{}\"", port));
  }
  config.server.address.port = static_cast<uint16_t>(*number);
  config.token_file = TokenPath(surroundings);
  const std::string authorities = surroundings.service_account_dir + "/ca.crt";
  if (Exists(authorities)) config.ca_file = authorities;
  const auto ns =
      net::ReadSmallFile(surroundings.service_account_dir + "/namespace", kMaxNamespace);
  if (ns) config.ns = Trim(*ns);
  return config;
}

}  // namespace

Surroundings ProcessSurroundings() {
  Surroundings surroundings;
  surroundings.env = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value != nullptr ? value : "");
  };
  surroundings.home = surroundings.env("HOME");
  return surroundings;
}

Result<ClusterConfig> FindCluster(const std::string& kubeconfig, const Surroundings& surroundings) {
  if (!kubeconfig.empty()) return FromFile(kubeconfig);
  if (const std::string list = surroundings.env("KUBECONFIG"); !list.empty()) return FromList(list);
  std::vector<std::string> looked = {"no kubeconfig is named", "KUBECONFIG is not set"};
  if (surroundings.env("KUBERNETES_SERVICE_HOST").empty()) {
    looked.push_back("KUBERNETES_SERVICE_HOST is not set");
  } else if (Exists(TokenPath(surroundings))) {
    return InCluster(surroundings);
  } else {
    looked.push_back(fmt::format("KUBERNETES_SERVICE_HOST is set, but {} does not exist",
                                 TokenPath(surroundings)));
  }
  const std::string home = HomeConfig(surroundings);
  if (home.empty()) {
    looked.push_back("HOME is not set");
  } else if (Exists(home)) {
    return FromFile(home);
  } else {
    looked.push_back(home + " does not exist");
  }
  return Fail(Code::kNotFound,
              fmt::format("no Kubernetes API is configured: {}", fmt::join(looked, "; ")));
}

bool ClusterConfigured(const std::string& kubeconfig, const Surroundings& surroundings) {
  const std::string home = HomeConfig(surroundings);
  return !kubeconfig.empty() || !surroundings.env("KUBECONFIG").empty() ||
         (!surroundings.env("KUBERNETES_SERVICE_HOST").empty() &&
          Exists(TokenPath(surroundings))) ||
         (!home.empty() && Exists(home));
}

}  // namespace warmpath::k8s
