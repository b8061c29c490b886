#include "gateway/forwarding.h"

#include "base/units.h"
#include "routing/request_headers.h"

namespace warmpath::gateway {
namespace {

constexpr std::string_view kRequestId = "x-request-id";
constexpr size_t kAddedBytes = 64;  // by the gateway, usually

bool IsOurs(std::string_view name) {
  switch (name.size()) {
    case 4:
      return EqualsIgnoreCase(name, "Host");
    case 6:
      return EqualsIgnoreCase(name, "Expect");
    case 12:
      return EqualsIgnoreCase(name, kRequestId);
    case 14:
      return EqualsIgnoreCase(name, "Content-Length");
    default:
      return false;
  }
}

}  // namespace

net::Headers UpstreamHeaders(const net::Headers& client, const std::string& request_id,
                             const std::string& engine_api_key) {
  const net::HopByHop is_hop_by_hop(client);
  net::Headers forwarded;
  forwarded.Reserve(client.size() + 3, client.bytes() + request_id.size() + kAddedBytes);
  for (const auto& [name, value] : client) {
    if (is_hop_by_hop(name) || IsOurs(name) || routing::IsRoutingHeader(name)) continue;
    forwarded.Add(name, value);
  }
  forwarded.Add(kRequestId, request_id);
  if (!engine_api_key.empty() && !forwarded.Get("Authorization")) {
    forwarded.Add("Authorization", "Bearer " + engine_api_key);
  }
  return forwarded;
}

net::Headers RoutingHeadersOf(const net::Headers& client) {
  net::Headers headers;
  for (const auto& [name, value] : client) {
    if (!routing::ChoosesDestination(name)) headers.Add(name, value);
  }
  return headers;
}

net::Headers DownstreamHeaders(net::Headers upstream, const std::string& request_id) {
  net::RemoveHopByHop(upstream);
  upstream.Set(kRequestId, request_id);
  return upstream;
}

}  // namespace warmpath::gateway
