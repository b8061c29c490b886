#include "net/tls_names.h"

#include <fmt/format.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>

namespace warmpath::net {
namespace {

struct Suite {
  std::string_view go;
  std::string_view openssl;
};

constexpr std::array kTls12Suites = {
    Suite{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
    Suite{"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
    Suite{"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    Suite{"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    Suite{"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA-AES128-SHA"},
    Suite{"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ECDHE-ECDSA-AES128-SHA256"},
    Suite{"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA-AES256-SHA"},
    Suite{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
    Suite{"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"},
    Suite{"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"},
    Suite{"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"},
    Suite{"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-RSA-AES128-SHA"},
    Suite{"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "ECDHE-RSA-AES128-SHA256"},
    Suite{"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA"},
    Suite{"TLS_RSA_WITH_AES_128_GCM_SHA256", "AES128-GCM-SHA256"},
    Suite{"TLS_RSA_WITH_AES_256_GCM_SHA384", "AES256-GCM-SHA384"},
    Suite{"TLS_RSA_WITH_AES_128_CBC_SHA", "AES128-SHA"},
    Suite{"TLS_RSA_WITH_AES_128_CBC_SHA256", "AES128-SHA256"},
    Suite{"TLS_RSA_WITH_AES_256_CBC_SHA", "AES256-SHA"},
};

constexpr std::array<std::string_view, 3> kTls13Suites = {
    "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"};

// Known to Go, broken, and in no current library.
constexpr std::array<std::string_view, 5> kBrokenSuites = {
    "TLS_RSA_WITH_RC4_128_SHA", "TLS_RSA_WITH_3DES_EDE_CBC_SHA", "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA", "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA"};

}  // namespace

Result<int> TlsVersionNumber(std::string_view name) {
  if (name.empty() || name == "VersionTLS12") return TLS1_2_VERSION;
  if (name == "VersionTLS13") return TLS1_3_VERSION;
  if (name == "VersionTLS10" || name == "VersionTLS11") {
    return Fail(Code::kUnsupported,
                fmt::format("{} is not secure and not offered; the lowest is VersionTLS12", name));
  }
  return Fail(Code::kInvalidArgument,
              fmt::format("\"{}\" is no TLS version; VersionTLS12 and VersionTLS13 are", name));
}

Result<CipherChoice> ChooseCiphers(const std::vector<std::string>& names) {
  CipherChoice choice;
  for (const std::string& name : names) {
    const auto suite = std::find_if(kTls12Suites.begin(), kTls12Suites.end(),
                                    [&](const Suite& known) { return known.go == name; });
    if (suite != kTls12Suites.end()) {
      if (!choice.tls12.empty()) choice.tls12 += ':';
      choice.tls12 += suite->openssl;
    } else if (std::find(kBrokenSuites.begin(), kBrokenSuites.end(), name) != kBrokenSuites.end()) {
      return Fail(Code::kUnsupported,
                  fmt::format("cipher suite {} is not secure and not offered", name));
    } else if (std::find(kTls13Suites.begin(), kTls13Suites.end(), name) == kTls13Suites.end()) {
      return Fail(Code::kInvalidArgument, fmt::format("\"{}\" is no known cipher suite", name));
    }
  }
  return choice;
}

}  // namespace warmpath::net
