#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include <array>
#include <cstdlib>
#include <utility>

#include "base/hash.h"
#include "base/mutex.h"
#include "net/tls_certificate.h"
#include "net/tls_names.h"
#include "net/tls_session.h"

namespace warmpath::net {
namespace {

constexpr std::chrono::hours kDay{24};
constexpr std::chrono::hours kClockSkew{1};

// Where distributions keep their authorities; the library knows only that of its own build.
constexpr std::array kSystemAuthorities = {
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem"};

using Material = std::shared_ptr<const TlsMaterial>;

Result<std::string> AlpnWire(const std::vector<std::string>& protocols) {
  std::string wire;
  for (const std::string& protocol : protocols) {
    if (protocol.empty() || protocol.size() > 255) {
      return Fail(Code::kInvalidArgument, "an ALPN name has 1 to 255 bytes");
    }
    wire += static_cast<char>(protocol.size());
    wire += protocol;
  }
  return wire;
}

int SelectProtocol(SSL*, const unsigned char** chosen, unsigned char* chosen_size,
                   const unsigned char* offered, unsigned offered_size, void* material) {
  const std::string& ours = static_cast<const TlsMaterial*>(material)->alpn;
  unsigned char* found = nullptr;
  if (SSL_select_next_proto(
          &found, chosen_size, reinterpret_cast<const unsigned char*>(ours.data()),
          static_cast<unsigned>(ours.size()), offered, offered_size) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

// What both sides share.
Result<std::shared_ptr<TlsMaterial>> NewMaterial(const SSL_METHOD* method, int min_version) {
  ERR_clear_error();
  auto material = std::make_shared<TlsMaterial>();
  material->context.reset(SSL_CTX_new(method));
  SSL_CTX* context = material->context.get();
  if (context == nullptr || SSL_CTX_set_min_proto_version(context, min_version) != 1) {
    return Fail(Code::kInternal, "cannot make a TLS context: " + OpenSslReason());
  }
  // No state outlives a session: neither cached ones nor tickets.
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  return material;
}

Status UseSelfSigned(SSL_CTX* context) {
  WP_TRY(const KeyPtr key, MakeKey());
  CertificateSpec spec;
  spec.organization = "Inference Ext";
  spec.valid_from = -kClockSkew;
  spec.valid_to = 3650 * kDay;
  WP_TRY(const CertificatePtr certificate, MakeCertificate(spec, key.get()));
  if (SSL_CTX_use_certificate(context, certificate.get()) != 1 ||
      SSL_CTX_use_PrivateKey(context, key.get()) != 1) {
    return Fail(Code::kInternal, "cannot use the certificate made: " + OpenSslReason());
  }
  return {};
}

Status RequireClients(SSL_CTX* context, const std::string& authorities) {
  WP_TRY(const PemText pem, ReadPem(authorities));
  WP_RETURN_IF_ERROR(TrustAuthorities(context, pem));
  SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(authorities.c_str()));
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  ERR_clear_error();
  return {};
}

Result<Material> ServerMaterial(const TlsServerOptions& options) {
  WP_TRY(int min_version, TlsVersionNumber(options.min_version));
  WP_TRY(const CipherChoice ciphers, ChooseCiphers(options.cipher_suites));
  // None of TLS 1.2's suites is allowed when only others are named.
  if (!options.cipher_suites.empty() && ciphers.tls12.empty()) min_version = TLS1_3_VERSION;
  WP_TRY(auto material, NewMaterial(TLS_server_method(), min_version));
  material->server = true;
  SSL_CTX* context = material->context.get();
  SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE);
  if (!ciphers.tls12.empty() && SSL_CTX_set_cipher_list(context, ciphers.tls12.c_str()) != 1) {
    return Fail(Code::kUnsupported, "none of the cipher suites is available: " + OpenSslReason());
  }
  WP_TRY(material->alpn, AlpnWire(options.alpn));
  if (!material->alpn.empty()) {
    SSL_CTX_set_alpn_select_cb(context, SelectProtocol, material.get());
  }
  if (options.cert_dir.empty()) {
    WP_RETURN_IF_ERROR(UseSelfSigned(context));
  } else {
    WP_TRY(const PemText certificates, ReadPem(options.cert_dir + "/tls.crt"));
    WP_TRY(const PemText key, ReadPem(options.cert_dir + "/tls.key"));
    WP_RETURN_IF_ERROR(UseCertificate(context, certificates, key));
  }
  if (!options.client_ca_file.empty()) {
    WP_RETURN_IF_ERROR(RequireClients(context, options.client_ca_file));
  }
  return material;
}

Status TrustSystem(SSL_CTX* context) {
  struct stat status{};
  if (std::getenv("SSL_CERT_FILE") == nullptr) {
    for (const char* path : kSystemAuthorities) {
      if (stat(path, &status) != 0) continue;
      WP_TRY(const PemText pem, ReadPem(path));
      return TrustAuthorities(context, pem);
    }
  }
  if (SSL_CTX_set_default_verify_paths(context) != 1) {
    return Fail(Code::kUnavailable, "cannot read the system's authorities: " + OpenSslReason());
  }
  return {};
}

// The text given, or else the file's; neither: empty.
Result<PemText> TextOrFile(const char* name, const std::string& text, const std::string& file) {
  if (!text.empty()) return PemText{name, text};
  if (!file.empty()) return ReadPem(file);
  return PemText{};
}

Result<Material> ClientMaterial(const TlsClientOptions& options) {
  WP_TRY(auto material, NewMaterial(TLS_client_method(), TLS1_2_VERSION));
  material->verify = options.verify;
  SSL_CTX* context = material->context.get();
  SSL_CTX_set_verify(context, options.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  material->server_name = options.server_name;
  WP_TRY(const PemText authorities,
         TextOrFile("the authorities' certificates", options.ca_pem, options.ca_file));
  if (!authorities.name.empty()) {
    WP_RETURN_IF_ERROR(TrustAuthorities(context, authorities));
  } else if (options.verify) {
    WP_RETURN_IF_ERROR(TrustSystem(context));
  }
  if ((options.cert_file.empty() && options.cert_pem.empty()) !=
      (options.key_file.empty() && options.key_pem.empty())) {
    return Fail(Code::kInvalidArgument,
                "a client certificate needs its key, and a key its certificate");
  }
  WP_TRY(const PemText certificates,
         TextOrFile("the client's certificate", options.cert_pem, options.cert_file));
  WP_TRY(const PemText key, TextOrFile("the client's key", options.key_pem, options.key_file));
  if (!certificates.name.empty()) {
    WP_RETURN_IF_ERROR(UseCertificate(context, certificates, key));
  }
  WP_TRY(material->alpn, AlpnWire(options.alpn));
  if (!material->alpn.empty() &&
      SSL_CTX_set_alpn_protos(context,
                              reinterpret_cast<const unsigned char*>(material->alpn.data()),
                              static_cast<unsigned>(material->alpn.size())) != 0) {
    return Fail(Code::kInternal, "cannot offer the ALPN names: " + OpenSslReason());
  }
  return material;
}

template <typename Options>
class Context final : public TlsContext {
 public:
  using Load = Result<Material> (*)(const Options&);

  Context(Options options, Load load, Material material)
      : options_(std::move(options)), load_(load), material_(std::move(material)) {}

  static Result<std::shared_ptr<TlsContext>> Create(const Options& options, Load load) {
    WP_TRY(Material material, load(options));
    return std::make_shared<Context>(options, load, std::move(material));
  }

  std::unique_ptr<TlsSession> NewSession(const std::string& server_name) override {
    Material material = Current();
    const std::string& own = material->server_name;
    return std::make_unique<OpenSslSession>(material, own.empty() ? server_name : own);
  }

  Status Reload() override {
    if constexpr (requires { options_.cert_dir; }) {
      if (options_.cert_dir.empty()) return {};
    }
    WP_TRY(Material material, load_(options_));
    MutexLock lock(mutex_);
    material_.swap(material);
    return {};
  }

  std::string Fingerprint() const override {
    const Material material = Current();
    X509* certificate = SSL_CTX_get0_certificate(material->context.get());
    Sha256Digest digest{};
    unsigned size = 0;
    if (certificate == nullptr ||
        X509_digest(certificate, EVP_sha256(), digest.data(), &size) != 1) {
      return {};
    }
    return Hex(digest);
  }

 private:
  Material Current() const {
    MutexLock lock(mutex_);
    return material_;
  }

  const Options options_;
  const Load load_;
  mutable Mutex mutex_;
  Material material_ GUARDED_BY(mutex_);
};

}  // namespace

Result<std::shared_ptr<TlsContext>> TlsContext::Server(const TlsServerOptions& options) {
  return Context<TlsServerOptions>::Create(options, ServerMaterial);
}

Result<std::shared_ptr<TlsContext>> TlsContext::Client(const TlsClientOptions& options) {
  return Context<TlsClientOptions>::Create(options, ClientMaterial);
}

}  // namespace warmpath::net
