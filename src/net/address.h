// Host, port and URL as text; resolving happens on the loop when connecting.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace warmpath::net {

struct HostPort {
  std::string host;  // IPv4, IPv6 without brackets, or a DNS name
  uint16_t port = 0;
  std::string ToString() const;  // [::1]:80 for IPv6
  friend bool operator==(const HostPort&, const HostPort&) = default;
};

// "127.0.0.1:8080", "[::1]:8080", ":8080" (all interfaces: host 0.0.0.0), "name:80".
Result<HostPort> ParseHostPort(std::string_view text);

struct Url {
  bool tls = false;
  HostPort address;
  std::string base_path;  // "" or "/prefix", no trailing slash
  std::string ToString() const;
};
// http:// and https:// only; port defaults to 80 / 443; no user info, query or fragment.
Result<Url> ParseUrl(std::string_view text);

}  // namespace warmpath::net
