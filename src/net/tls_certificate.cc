#include "net/tls_certificate.h"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <utility>

#include "net/small_file.h"

namespace warmpath::net {
namespace {

constexpr size_t kMaxPemBytes = 4 << 20;  // a system's whole bundle is a quarter of a megabyte
constexpr int kSerialBits = 127;          // positive, and below the 20 octets allowed
constexpr int kRsaBits = 2048;

using BioPtr = std::unique_ptr<BIO, OpenSslDelete<BIO_free_all>>;
using BignumPtr = std::unique_ptr<BIGNUM, OpenSslDelete<BN_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, OpenSslDelete<X509_EXTENSION_free>>;

BioPtr Reader(const std::string& text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Never asks the terminal for a passphrase.
int NoPassphrase(char*, int, int, void*) {
  return -1;
}

bool AddName(X509_NAME* name, const char* field, const std::string& value) {
  return value.empty() ||
         X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                                    reinterpret_cast<const unsigned char*>(value.data()),
                                    static_cast<int>(value.size()), -1, 0) == 1;
}

bool AddExtension(X509* certificate, X509V3_CTX* context, int kind, const char* value) {
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, context, kind, value));
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

bool Fill(X509* certificate, const CertificateSpec& spec, EVP_PKEY* key, const Issuer& issuer) {
  const BignumPtr serial(BN_new());
  X509_NAME* subject = X509_get_subject_name(certificate);
  if (X509_set_version(certificate, 2) != 1 || !serial ||
      BN_rand(serial.get(), kSerialBits, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) != 1 ||
      BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate)) == nullptr ||
      X509_gmtime_adj(X509_getm_notBefore(certificate), spec.valid_from.count()) == nullptr ||
      X509_gmtime_adj(X509_getm_notAfter(certificate), spec.valid_to.count()) == nullptr ||
      X509_set_pubkey(certificate, key) != 1 || !AddName(subject, "O", spec.organization) ||
      !AddName(subject, "CN", spec.common_name) ||
      X509_set_issuer_name(certificate, X509_get_subject_name(issuer.certificate)) != 1) {
    return false;
  }
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer.certificate, certificate, nullptr, nullptr, 0);
  const char* usage = spec.authority ? "critical,keyCertSign,digitalSignature"
                                     : "critical,digitalSignature,keyEncipherment";
  if (!AddExtension(certificate, &context, NID_basic_constraints,
                    spec.authority ? "critical,CA:TRUE" : "critical,CA:FALSE") ||
      !AddExtension(certificate, &context, NID_key_usage, usage)) {
    return false;
  }
  if (!spec.authority && !AddExtension(certificate, &context, NID_ext_key_usage,
                                       spec.client ? "clientAuth" : "serverAuth")) {
    return false;
  }
  return spec.alternative_names.empty() ||
         AddExtension(certificate, &context, NID_subject_alt_name, spec.alternative_names.c_str());
}

}  // namespace

std::string OpenSslReason() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : "unknown error";
}

Result<KeyPtr> MakeKey() {
  ERR_clear_error();
  KeyPtr key(EVP_RSA_gen(kRsaBits));
  if (!key) return Fail(Code::kInternal, "cannot make an RSA key: " + OpenSslReason());
  return key;
}

Result<CertificatePtr> MakeCertificate(const CertificateSpec& spec, EVP_PKEY* key,
                                       const Issuer* issuer) {
  ERR_clear_error();
  CertificatePtr certificate(X509_new());
  const Issuer self{certificate.get(), key};
  const Issuer& signer = issuer != nullptr ? *issuer : self;
  if (!certificate || !Fill(certificate.get(), spec, key, signer) ||
      X509_sign(certificate.get(), signer.key, EVP_sha256()) == 0) {
    return Fail(Code::kInternal, "cannot make a certificate: " + OpenSslReason());
  }
  return certificate;
}

Result<PemText> ReadPem(const std::string& path) {
  WP_TRY(std::string text, ReadSmallFile(path, kMaxPemBytes));
  return PemText{path, std::move(text)};
}

Result<std::vector<CertificatePtr>> ParseCertificates(const PemText& pem) {
  ERR_clear_error();
  const BioPtr reader = Reader(pem.text);
  std::vector<CertificatePtr> chain;
  while (
      CertificatePtr certificate{PEM_read_bio_X509(reader.get(), nullptr, NoPassphrase, nullptr)}) {
    chain.push_back(std::move(certificate));
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (!at_end) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: certificate {} is damaged: {}", pem.name,
                                                    chain.size() + 1, OpenSslReason()));
  }
  ERR_clear_error();
  if (chain.empty()) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: no certificate in PEM form", pem.name));
  }
  return chain;
}

Result<KeyPtr> ParseKey(const PemText& pem) {
  ERR_clear_error();
  const BioPtr reader = Reader(pem.text);
  KeyPtr key(PEM_read_bio_PrivateKey(reader.get(), nullptr, NoPassphrase, nullptr));
  if (key) return key;
  const bool encrypted = pem.text.find("ENCRYPTED") != std::string::npos;
  const bool none = pem.text.find("PRIVATE KEY-----") == std::string::npos;
  const std::string reason = OpenSslReason();
  return Fail(Code::kInvalidArgument,
              encrypted
                  ? fmt::format("{}: the private key is encrypted; give one that is not", pem.name)
              : none ? fmt::format("{}: no private key in PEM form", pem.name)
                     : fmt::format("{}: the private key is damaged: {}", pem.name, reason));
}

Status UseCertificate(SSL_CTX* context, const PemText& certificates, const PemText& key_pem) {
  WP_TRY(const std::vector<CertificatePtr> chain, ParseCertificates(certificates));
  WP_TRY(const KeyPtr key, ParseKey(key_pem));
  ERR_clear_error();
  // The library's own check, when the certificate is set, says less.
  if (X509_check_private_key(chain.front().get(), key.get()) != 1) {
    ERR_clear_error();
    return Fail(Code::kInvalidArgument, fmt::format("{}: not the key of the certificate in {}",
                                                    key_pem.name, certificates.name));
  }
  if (SSL_CTX_use_certificate(context, chain.front().get()) != 1) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: {}", certificates.name, OpenSslReason()));
  }
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: {}", key_pem.name, OpenSslReason()));
  }
  for (size_t i = 1; i < chain.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(context, chain[i].get()) != 1) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}: {}", certificates.name, OpenSslReason()));
    }
  }
  return {};
}

Status TrustAuthorities(SSL_CTX* context, const PemText& pem) {
  WP_TRY(const std::vector<CertificatePtr> authorities, ParseCertificates(pem));
  ERR_clear_error();
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  for (const CertificatePtr& authority : authorities) {
    if (X509_STORE_add_cert(store, authority.get()) != 1) {
      return Fail(Code::kInvalidArgument, fmt::format("{}: {}", pem.name, OpenSslReason()));
    }
  }
  return {};
}

}  // namespace warmpath::net
