// Where the Kubernetes API is and who we are there: the pod's own service account, or a kubeconfig.
// Reads files; no I/O besides.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/address.h"

namespace warmpath::k8s {

struct ClusterConfig {
  net::Url server;
  std::string source;  // "in-cluster", or the kubeconfig's path and context: for logs and errors
  std::string ns;      // the credentials' namespace; "" = unknown
  // Trust. PEM text or a file; both empty: the system's authorities.
  std::string ca_pem, ca_file;
  bool verify = true;           // insecure-skip-tls-verify: false
  std::string tls_server_name;  // verified instead of the server's host; "" = the host
  // Credentials: a bearer token (a file is read again, see api.h), or a client certificate.
  std::string token, token_file;
  std::string cert_pem, cert_file, key_pem, key_file;
};

// What the process sees; tests give their own.
struct Surroundings {
  std::function<std::string(const char* name)> env;  // "" = not set
  std::string service_account_dir = "/var/run/secrets/kubernetes.io/serviceaccount";
  std::string home;
};
Surroundings ProcessSurroundings();

// First of: `kubeconfig` (the flag's value), the files of KUBECONFIG (colon list, merged),
// in-cluster (KUBERNETES_SERVICE_HOST and the mounted token), ~/.kube/config. Errors name every
// place looked at, or the file, the context and the field; exec plugins, auth providers and proxies
// are refused by name.
Result<ClusterConfig> FindCluster(const std::string& kubeconfig, const Surroundings& surroundings);
// Whether FindCluster has anything to read, without reading it.
bool ClusterConfigured(const std::string& kubeconfig, const Surroundings& surroundings);

}  // namespace warmpath::k8s
