#include "gateway/forwarding.h"

#include <algorithm>
#include <array>

#include "base/hash.h"
#include "base/units.h"

namespace warmpath::gateway {
namespace {

constexpr size_t kMaxRequestId = 128;
constexpr std::string_view kRequestId = "x-request-id";

constexpr std::array<std::string_view, 5> kRoutingPrefixes = {
    "x-gateway-destination-endpoint", "x-warmpath-", "x-llm-d-", "x-data-parallel-",
    "x-gateway-model-"};
constexpr std::array<std::string_view, 3> kRoutingNames = {
    "x-prefiller-host-port", "x-encoder-hosts-ports", "x-session-token"};

bool StartsWithIgnoringCase(std::string_view text, std::string_view prefix) {
  return EqualsIgnoreCase(text.substr(0, prefix.size()), prefix);
}

}  // namespace

std::string RequestIdOf(const net::Headers& headers) {
  const std::string_view given = headers.Get(kRequestId).value_or("");
  const bool usable =
      !given.empty() && given.size() <= kMaxRequestId &&
      std::all_of(given.begin(), given.end(), [](char c) { return c > ' ' && c <= '~'; });
  return usable ? std::string(given) : RandomUuid();
}

bool IsRoutingHeader(std::string_view name) {
  return std::any_of(kRoutingPrefixes.begin(), kRoutingPrefixes.end(),
                     [name](std::string_view p) { return StartsWithIgnoringCase(name, p); }) ||
         std::any_of(kRoutingNames.begin(), kRoutingNames.end(),
                     [name](std::string_view n) { return EqualsIgnoreCase(name, n); });
}

net::Headers UpstreamHeaders(const net::Headers& client, const std::string& request_id,
                             const std::string& engine_api_key) {
  net::Headers headers = client;
  net::RemoveHopByHop(headers);
  net::Headers forwarded;
  for (const auto& [name, value] : headers) {
    if (IsRoutingHeader(name) || EqualsIgnoreCase(name, "Host") ||
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

net::Headers DownstreamHeaders(net::Headers upstream, const std::string& request_id) {
  net::RemoveHopByHop(upstream);
  upstream.Set(kRequestId, request_id);
  return upstream;
}

}  // namespace warmpath::gateway
