#include "net/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/units.h"

namespace warmpath::net {
namespace {

bool IsIpv6(const std::string& text) {
  in6_addr address;
  return inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

// A DNS name or an IPv4 address.
bool IsName(std::string_view text) {
  return !text.empty() && text.size() <= 253 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
  });
}

Result<uint16_t> ParsePort(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return Fail(Code::kInvalidArgument, fmt::format("\"{}\" is not a port (0 to 65535)", text));
  }
  return port;
}

struct Split {
  std::string host;
  std::string_view port;  // without the colon
  bool has_port = false;
};

Result<Split> SplitHostPort(std::string_view text) {
  Split split;
  if (text.starts_with('[')) {
    const size_t close = text.find(']');
    if (close == std::string_view::npos) {
      return Fail(Code::kInvalidArgument, fmt::format("\"{}\" lacks the closing bracket", text));
    }
    split.host = text.substr(1, close - 1);
    if (!IsIpv6(split.host)) {
      return Fail(Code::kInvalidArgument, fmt::format("\"{}\" is not an IPv6 address", split.host));
    }
    text.remove_prefix(close + 1);
    if (text.empty()) return split;
    if (!text.starts_with(':')) {
      return Fail(Code::kInvalidArgument, "only a port may follow the bracket");
    }
    split.port = text.substr(1);
    split.has_port = true;
    return split;
  }
  const size_t colon = text.find(':');
  if (colon != std::string_view::npos) {
    if (text.find(':', colon + 1) != std::string_view::npos) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("\"{}\": an IPv6 address goes into brackets", text));
    }
    split.port = text.substr(colon + 1);
    split.has_port = true;
  }
  split.host = text.substr(0, colon);
  if (!split.host.empty() && !IsName(split.host)) {
    return Fail(Code::kInvalidArgument, fmt::format("\"{}\" is not a host", split.host));
  }
  return split;
}

}  // namespace

std::string HostPort::ToString() const {
  const bool ipv6 = host.find(':') != std::string::npos;
  const fmt::format_int number(port);
  std::string text;
  text.reserve(host.size() + 8);
  if (ipv6) text += '[';
  text += host;
  if (ipv6) text += ']';
  text += ':';
  text.append(number.data(), number.size());
  return text;
}

Result<HostPort> ParseHostPort(std::string_view text) {
  WP_TRY(Split split, SplitHostPort(text));
  if (!split.has_port) {
    return Fail(Code::kInvalidArgument, fmt::format("\"{}\" lacks a port (HOST:PORT)", text));
  }
  HostPort address;
  WP_TRY(address.port, ParsePort(split.port));
  address.host = split.host.empty() ? "0.0.0.0" : std::move(split.host);
  return address;
}

std::string Url::ToString() const {
  const uint16_t standard = tls ? 443 : 80;
  std::string authority = address.ToString();
  if (address.port == standard) authority.resize(authority.rfind(':'));
  return std::string(tls ? "https://" : "http://").append(authority).append(base_path);
}

Result<Url> ParseUrl(std::string_view text) {
  const auto wrong = [text](std::string_view why) {
    return Fail(Code::kInvalidArgument, fmt::format("\"{}\": {}", text, why));
  };
  Url url;
  std::string_view rest = text;
  if (EqualsIgnoreCase(rest.substr(0, 7), "http://")) {
    rest.remove_prefix(7);
  } else if (EqualsIgnoreCase(rest.substr(0, 8), "https://")) {
    url.tls = true;
    rest.remove_prefix(8);
  } else {
    return wrong("a URL starts with http:// or https://");
  }
  if (rest.find_first_of("?#") != std::string_view::npos) return wrong("no query or fragment here");
  const size_t slash = rest.find('/');
  const std::string_view authority = rest.substr(0, slash);
  if (authority.find('@') != std::string_view::npos) return wrong("no user information in a URL");
  auto split = SplitHostPort(authority);
  if (!split) return wrong(split.error().message);
  if (split->host.empty()) return wrong("no host");
  url.address.host = std::move(split->host);
  url.address.port = url.tls ? 443 : 80;
  if (split->has_port) {
    auto port = ParsePort(split->port);
    if (!port || *port == 0) return wrong("the port is not 1 to 65535");
    url.address.port = *port;
  }
  if (slash != std::string_view::npos) {
    std::string_view path = rest.substr(slash);
    while (path.ends_with('/')) path.remove_suffix(1);
    if (std::any_of(path.begin(), path.end(), [](char c) { return c <= ' ' || c > '~'; })) {
      return wrong("the path has characters that need percent-encoding");
    }
    url.base_path = path;
  }
  return url;
}

}  // namespace warmpath::net
