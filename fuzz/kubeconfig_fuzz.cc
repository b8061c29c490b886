// Two kubeconfig files (apart by a zero byte): what is understood is complete.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "k8s/kubeconfig.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace warmpath;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t zero = text.find('\0');
  std::vector<k8s::KubeconfigFile> files = {{"/dir/one", std::string(text.substr(0, zero))}};
  if (zero != text.npos) files.push_back({"two", std::string(text.substr(zero + 1))});
  const auto config = k8s::ReadKubeconfig(files);
  if (!config) {
    WP_CHECK(!config.error().message.empty());
    return 0;
  }
  WP_CHECK(!config->server.address.host.empty());
  WP_CHECK(config->verify || (config->ca_pem.empty() && config->ca_file.empty()));
  WP_CHECK(config->ca_pem.empty() || config->ca_file.empty());
  WP_CHECK((config->cert_pem.empty() && config->cert_file.empty()) ==
           (config->key_pem.empty() && config->key_file.empty()));
  return 0;
}
