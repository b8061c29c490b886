#include "gateway/forwarding.h"

#include "base/units.h"
#include "routing/request_headers.h"

namespace warmpath::gateway {
namespace {

constexpr std::string_view kRequestId = "x-request-id";

}  // namespace

net::Headers UpstreamHeaders(const net::Headers& client, const std::string& request_id,
                             const std::string& engine_api_key) {
  net::Headers headers = client;
  net::RemoveHopByHop(headers);
  net::Headers forwarded;
  for (const auto& [name, value] : headers) {
    if (routing::IsRoutingHeader(name) || EqualsIgnoreCase(name, "Host") ||
        EqualsIgnoreCase(name, "Expect") || EqualsIgnoreCase(name, "Content-Length") ||
        EqualsIgnoreCase(name, kRequestId)) {
      continue;
    }
    forwarded.Add(name, value);
  }
  forwarded.Add(std::string(kRequestId), request_id);
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
