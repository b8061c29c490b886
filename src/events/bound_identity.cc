#include "events/bound_identity.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "base/units.h"

namespace warmpath::events {

std::string NormalizeAddress(std::string_view text) {
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  const std::string host(text.substr(0, text.find('%')));  // without a zone
  char buffer[INET6_ADDRSTRLEN];
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1)
    return inet_ntop(AF_INET, &v4, buffer, sizeof buffer);
  in6_addr v6{};
  if (inet_pton(AF_INET6, host.c_str(), &v6) != 1) return "";
  if (IN6_IS_ADDR_V4MAPPED(&v6)) {
    std::memcpy(&v4, v6.s6_addr + 12, sizeof v4);
    return inet_ntop(AF_INET, &v4, buffer, sizeof buffer);
  }
  return inet_ntop(AF_INET6, &v6, buffer, sizeof buffer);
}

std::optional<BoundTopic> ParseBoundTopic(std::string_view topic) {
  if (!topic.starts_with("kv@")) return std::nullopt;
  topic.remove_prefix(3);
  const size_t at = topic.find('@');
  if (at == std::string_view::npos) return std::nullopt;
  BoundTopic out;
  out.model = topic.substr(at + 1);
  const std::string_view address = topic.substr(0, at);
  out.host = NormalizeAddress(address);
  if (!out.host.empty()) return out;
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  out.host = NormalizeAddress(address.substr(0, colon));
  const auto port = ParseInt(address.substr(colon + 1));
  if (out.host.empty() || !port || *port < 1 || *port > 65535) return std::nullopt;
  out.port = static_cast<uint16_t>(*port);
  return out;
}

void BoundIdentity::Set(std::vector<Candidate> candidates, TimePoint now) {
  std::unordered_map<fleet::EndpointId, TimePoint> known;
  for (const Candidate& candidate : candidates_) known.emplace(candidate.endpoint, candidate.since);
  candidates_ = std::move(candidates);
  by_address_.clear();
  for (size_t i = 0; i < candidates_.size(); ++i) {
    Candidate& candidate = candidates_[i];
    const auto before = known.find(candidate.endpoint);
    candidate.since = before == known.end() ? now : before->second;
    for (const std::string& address : candidate.addresses) by_address_[address].push_back(i);
  }
}

BoundIdentity::Answer BoundIdentity::Find(std::string_view topic,
                                          std::string_view peer_address) const {
  const auto claim = ParseBoundTopic(topic);
  if (!claim) return {std::nullopt, nullptr, "topic"};
  if (NormalizeAddress(peer_address) != claim->host) return {std::nullopt, nullptr, "peer_address"};
  Answer answer{std::nullopt, nullptr, "unknown_endpoint"};
  const auto places = by_address_.find(claim->host);
  if (places == by_address_.end()) return answer;
  for (const size_t place : places->second) {
    const Candidate& candidate = candidates_[place];
    if (claim->port != 0 && claim->port != candidate.port) continue;
    if (answer.endpoint) return {std::nullopt, nullptr, "ambiguous_endpoint"};
    answer = {candidate.endpoint, &candidate, ""};
  }
  return answer;
}

std::vector<std::string> AddressesOf(const std::string& host) {
  if (std::string numeric = NormalizeAddress(host); !numeric.empty()) return {numeric};
  std::vector<std::string> out;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (getaddrinfo(host.c_str(), nullptr, &hints, &list) != 0) return out;
  for (const addrinfo* a = list; a != nullptr; a = a->ai_next) {
    char text[NI_MAXHOST];
    if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0)
      continue;
    std::string address = NormalizeAddress(text);
    if (!address.empty() && std::find(out.begin(), out.end(), address) == out.end())
      out.push_back(std::move(address));
  }
  freeaddrinfo(list);
  return out;
}

}  // namespace warmpath::events
