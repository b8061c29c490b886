// Internal to net: keys and certificates: read from PEM files, or made. Pure functions,
// thread-safe.
#pragma once

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace warmpath::net {

template <auto kFree>
struct OpenSslDelete {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using SslContextPtr = std::unique_ptr<SSL_CTX, OpenSslDelete<SSL_CTX_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, OpenSslDelete<EVP_PKEY_free>>;
using CertificatePtr = std::unique_ptr<X509, OpenSslDelete<X509_free>>;

// Why the last OpenSSL call of this thread failed, in the library's words; clears its errors.
std::string OpenSslReason();

struct CertificateSpec {
  std::string organization{};
  std::string common_name{};
  std::string alternative_names{};     // "DNS:a.example,IP:127.0.0.1"; empty: none
  std::chrono::seconds valid_from{0};  // both from now
  std::chrono::seconds valid_to{0};
  bool authority = false;  // may sign others
  bool client = false;     // for clients instead of servers
};
struct Issuer {
  X509* certificate;
  EVP_PKEY* key;
};
Result<KeyPtr> MakeKey();  // RSA-2048
// Without an issuer: signed by its own key.
Result<CertificatePtr> MakeCertificate(const CertificateSpec& spec, EVP_PKEY* key,
                                       const Issuer* issuer = nullptr);

// PEM text and what errors call it: its file, or the option that holds it.
struct PemText {
  std::string name;
  std::string text;
};
Result<PemText> ReadPem(const std::string& path);

// At least one certificate; the first is the holder's.
Result<std::vector<CertificatePtr>> ParseCertificates(const PemText& pem);
Result<KeyPtr> ParseKey(const PemText& pem);
// Makes `context` present the chain in `certificates` with the key in `key`.
Status UseCertificate(SSL_CTX* context, const PemText& certificates, const PemText& key);
// Makes `context` trust what is in `authorities`, and nothing else.
Status TrustAuthorities(SSL_CTX* context, const PemText& authorities);

}  // namespace warmpath::net
