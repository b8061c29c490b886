// Internal to k8s: kubeconfig files, merged as kubectl merges them. Pure functions, thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "k8s/cluster.h"

namespace warmpath::k8s {

struct KubeconfigFile {
  std::string path;  // relative paths inside start at its directory
  std::string text;
};

// The current context. Of two files that name the same thing the first wins, whole. Errors name the
// file, the context and the field. Files named inside are not opened.
Result<ClusterConfig> ReadKubeconfig(const std::vector<KubeconfigFile>& files);

// Standard alphabet, padded; line breaks and spaces are passed over.
Result<std::string> DecodeBase64(std::string_view text);

}  // namespace warmpath::k8s
