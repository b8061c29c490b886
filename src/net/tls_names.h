// Internal to net: Go's names for TLS versions and cipher suites, as command lines of Kubernetes
// components use them. Pure functions, thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace warmpath::net {

// "VersionTLS12" or "VersionTLS13" as OpenSSL's number; "" is TLS 1.2. Older versions are refused.
Result<int> TlsVersionNumber(std::string_view name);

struct CipherChoice {
  std::string tls12;  // OpenSSL's list for TLS 1.2; empty: none of that version was named
};
// TLS 1.3's suites are accepted by name; all of them are always on, as in Go.
Result<CipherChoice> ChooseCiphers(const std::vector<std::string>& names);

}  // namespace warmpath::net
