#include "fleet/endpoint_text.h"

#include <arpa/inet.h>

#include <algorithm>

namespace warmpath::fleet {

bool IsPrintableWord(std::string_view text) {
  return !text.empty() && text.size() <= kMaxNameBytes &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return c > ' ' && c < 0x7f && c != '"' && c != '\\'; });
}

Result<net::HostPort> ParseZmqAddress(std::string_view text, uint16_t ranks) {
  constexpr std::string_view kScheme = "tcp://";
  if (!text.starts_with(kScheme)) {
    return Fail(Code::kInvalidArgument, "must be tcp://HOST:PORT");
  }
  WP_TRY(net::HostPort address, net::ParseHostPort(text.substr(kScheme.size())));
  if (address.host.empty() || address.host == "*" || text.substr(kScheme.size()).starts_with(':')) {
    return Fail(Code::kInvalidArgument, "must name the host to connect to");
  }
  if (address.port == 0 || address.port + (ranks - 1) > 65535) {
    return Fail(Code::kInvalidArgument, "port out of range 1..65535 (rank r uses port + r)");
  }
  return address;
}

std::optional<std::string> CanonicalIp(const std::string& host) {
  char text[INET6_ADDRSTRLEN] = {};
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    inet_ntop(AF_INET, &v4, text, sizeof(text));
    return text;
  }
  in6_addr v6{};
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
    inet_ntop(AF_INET6, &v6, text, sizeof(text));
    return text;
  }
  return std::nullopt;
}

}  // namespace warmpath::fleet
