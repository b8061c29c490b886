// Endpoints and policies that come from files: loaded once before anything serves, then watched. A
// file that becomes unreadable or wrong keeps the last good set, is logged and counted.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/result.h"
#include "fleet/endpoints_file.h"
#include "fleet/fleet.h"
#include "net/file_watch.h"
#include "net/loop.h"
#include "routing/director.h"

namespace warmpath::app {

struct DiscoverySource {
  std::string path;
  bool watch = true;
};

struct DiscoveryOptions {
  std::vector<fleet::EndpointSpec> fixed;       // of --endpoint
  std::vector<DiscoverySource> endpoint_files;  // --endpoints-file, file-discovery
  fleet::EndpointsFileDefaults defaults;
  std::string policy_file;  // "" = none
};

// Loop-confined after Create. Fleet and Director outlive it.
class Discovery {
 public:
  // Reads every file; an error names it.
  static Result<std::unique_ptr<Discovery>> Create(DiscoveryOptions options, fleet::Fleet& fleet,
                                                   routing::Director& director, Registry& metrics);
  // On the loop's thread, both.
  void Start(net::Loop& loop);
  void Stop() { watches_.clear(); }

 private:
  Discovery(DiscoveryOptions options, fleet::Fleet& fleet, routing::Director& director,
            Registry& metrics);
  Status LoadEndpoints(size_t file);
  Status LoadPolicies();
  void Publish();
  void Watch(net::Loop& loop, const std::string& path, std::function<Status()> load);

  const DiscoveryOptions options_;
  fleet::Fleet& fleet_;
  routing::Director& director_;
  Registry& metrics_;
  std::vector<std::vector<fleet::EndpointSpec>> from_files_;  // by endpoint_files
  std::vector<std::unique_ptr<net::FileWatch>> watches_;
};

}  // namespace warmpath::app
