#include "routing/attributes.h"

#include <arpa/inet.h>

#include <array>

#include "base/units.h"
#include "net/address.h"

namespace warmpath::routing {
namespace {

constexpr size_t kMaxValue = 256;

std::string ValueOf(const net::Headers& headers, std::string_view name, std::string_view alias) {
  for (const std::string_view candidate : {name, alias}) {
    const std::string_view value = Trim(headers.Get(candidate).value_or(""));
    if (!value.empty()) return std::string(value.substr(0, kMaxValue));
  }
  return {};
}

// IPv6 addresses have many spellings; other hosts stay as they are.
std::string Canonical(const std::string& host) {
  in6_addr address{};
  if (host.find(':') == std::string::npos || inet_pton(AF_INET6, host.c_str(), &address) != 1)
    return host;
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(AF_INET6, &address, text.data(), text.size());
  return text.data();
}

// Only compared with others made here.
std::string Key(const net::HostPort& address) {
  return Canonical(address.host) + "|" + std::to_string(address.port);
}

}  // namespace

RoutingHeaders ReadRoutingHeaders(const net::Headers& headers) {
  RoutingHeaders out;
  out.objective = ValueOf(headers, "x-llm-d-inference-objective", "x-gateway-inference-objective");
  out.fairness_id =
      ValueOf(headers, "x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id");
  out.model_rewrite =
      ValueOf(headers, "x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite");
  if (out.fairness_id.empty()) out.fairness_id = kDefaultFairnessId;
  return out;
}

Subset::Subset(const std::vector<std::string>& entries) {
  for (const std::string& entry : entries) {
    std::string_view text = Trim(entry);
    in6_addr v6{};
    const bool bare_v6 = inet_pton(AF_INET6, std::string(text).c_str(), &v6) == 1;
    if (!bare_v6 && text.find(':') != std::string_view::npos && !text.ends_with(']')) {
      if (const auto address = net::ParseHostPort(text)) entries_.insert(Key(*address));
      continue;
    }
    if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
    if (!text.empty()) entries_.insert(Canonical(std::string(text)));
  }
}

bool Subset::Contains(const fleet::Endpoint& endpoint) const {
  if (entries_.empty()) return false;
  const auto address = net::ParseHostPort(endpoint.address());
  if (!address) return false;
  return entries_.contains(Key(*address)) || entries_.contains(Canonical(address->host));
}

}  // namespace warmpath::routing
