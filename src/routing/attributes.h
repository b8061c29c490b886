// What routing reads of a request's headers and of the endpoints it is confined to. Pure functions.
#pragma once

#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "fleet/endpoint.h"
#include "net/http.h"

namespace warmpath::routing {

inline constexpr std::string_view kDefaultFairnessId = "default-flow";

// Names a client gives; "" where the header is absent or empty. llm-d's name wins over the older
// alias. At most 256 bytes of each are kept.
struct RoutingHeaders {
  std::string objective;
  std::string fairness_id;  // kDefaultFairnessId when absent
  std::string model_rewrite;
};
RoutingHeaders ReadRoutingHeaders(const net::Headers& headers);

// A set of allowed endpoints: "ip:port", "[v6]:port", or an address alone for every port there.
class Subset {
 public:
  explicit Subset(const std::vector<std::string>& entries);
  bool Contains(const fleet::Endpoint& endpoint) const;

 private:
  std::unordered_set<std::string> entries_;  // "host|port" or "host", IPv6 in one spelling
};

}  // namespace warmpath::routing
