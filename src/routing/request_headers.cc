#include "routing/request_headers.h"

#include <algorithm>
#include <array>

#include "base/hash.h"
#include "base/units.h"

namespace warmpath::routing {
namespace {

constexpr size_t kMaxRequestId = 128;
constexpr std::string_view kRequestId = "x-request-id";

constexpr std::array<std::string_view, 6> kRoutingPrefixes = {"x-gateway-destination-endpoint",
                                                              "x-warmpath-",
                                                              "x-llm-d-",
                                                              "x-data-parallel-",
                                                              "x-gateway-model-",
                                                              "x-gateway-inference-"};
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

bool ChoosesDestination(std::string_view name) {
  return StartsWithIgnoringCase(name, "x-gateway-destination-endpoint") ||
         StartsWithIgnoringCase(name, "x-data-parallel-") ||
         EqualsIgnoreCase(name, "x-llm-d-model-name-rewrite") ||
         EqualsIgnoreCase(name, "x-gateway-model-name-rewrite") ||
         EqualsIgnoreCase(name, "x-prefiller-host-port") ||
         EqualsIgnoreCase(name, "x-encoder-hosts-ports");
}

bool IsRoutingHeader(std::string_view name) {
  return std::any_of(kRoutingPrefixes.begin(), kRoutingPrefixes.end(),
                     [name](std::string_view p) { return StartsWithIgnoringCase(name, p); }) ||
         std::any_of(kRoutingNames.begin(), kRoutingNames.end(),
                     [name](std::string_view n) { return EqualsIgnoreCase(name, n); });
}

}  // namespace warmpath::routing
