// llm-d's file-discovery format: `endpoints:` with name, namespace, address, port, labels. Ours
// also takes IPv6 addresses and DNS names, and per endpoint the keys of --endpoint (events, replay,
// dp). Pure functions; files are at most 1 MiB.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fleet/endpoint.h"

namespace warmpath::fleet {

struct EndpointsFileDefaults {
  uint16_t events_port = 5557;  // dialled where an entry names no events address; 0: none
  uint16_t replay_port = 0;     // 0: none
};

inline constexpr size_t kMaxEndpointsFileBytes = 1 << 20;
inline constexpr size_t kMaxEndpoints = 10'000;

// Names are unique within a namespace; a name that several namespaces have becomes
// "namespace/name" outside the namespace "default". An entry that shares its host with another gets
// no default events address: whose blocks those were could not be told.
// Anything not understood is an error, so that a half-written file never empties the pool; so is a
// file without the list `endpoints`.
//
// Errors read "source:LINE: endpoints[2].port: what". An empty list is a list.
Result<std::vector<EndpointSpec>> ParseEndpointsFile(std::string_view text,
                                                     std::string_view source_name,
                                                     const EndpointsFileDefaults& defaults);
Result<std::vector<EndpointSpec>> LoadEndpointsFile(const std::string& path,
                                                    const EndpointsFileDefaults& defaults);

}  // namespace warmpath::fleet
