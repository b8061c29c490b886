// TLS as a pair of pure state machines: a context (certificates, versions, ciphers) shared by all
// sessions, and a session that turns ciphertext into plaintext and back. No sockets here: the
// connection that owns a session moves the bytes.
//
// TlsContext is thread-safe; its certificate may be replaced while sessions are under way (they
// keep the one they began with). TlsSession is confined to its connection's loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace warmpath::net {

struct TlsServerOptions {
  // Directory with tls.crt and tls.key (PEM); empty: a self-signed certificate made at start, valid
  // for ten years: RSA, so that suites naming RSA work with it, and of 2048 bits, because a key of
  // 4096 can take seconds to make.
  std::string cert_dir{};
  // Go's names: VersionTLS12, VersionTLS13; empty: TLS 1.2. Older ones are refused.
  std::string min_version{};
  // Go's names (TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, ...), TLS 1.2 only; empty: the library's.
  // Only names of TLS 1.3: that version alone.
  std::vector<std::string> cipher_suites{};
  std::vector<std::string> alpn{};  // offered protocols, by preference: {"h2"}, {"http/1.1"}
  std::string client_ca_file{};     // PEM; not empty: clients must present a certificate it signed
};

struct TlsClientOptions {
  bool verify = true;       // the peer's chain and host name
  std::string ca_file{};    // PEM; empty: the system's
  std::string cert_file{};  // client certificate and key, PEM; empty: none
  std::string key_file{};
  std::vector<std::string> alpn{};
  // PEM text instead of the files above; not empty: the file is not read.
  std::string ca_pem{};
  std::string cert_pem{};
  std::string key_pem{};
  std::string server_name{};  // verified and sent (SNI) instead of NewSession's; empty: that
};

class TlsSession {
 public:
  virtual ~TlsSession() = default;
  // Bytes from the peer. Decrypted bytes are appended to `plaintext`. An error ends the session
  // (what is in TakeOutput then, an alert, may still be sent).
  virtual Status Feed(std::string_view ciphertext, std::string& plaintext) = 0;
  // Queues plaintext; before the handshake is done it is kept (at most 1 MiB) and sent after it.
  virtual Status Write(std::string_view plaintext) = 0;
  // close_notify.
  virtual void Close() = 0;
  // Bytes for the peer, appended to `ciphertext`; call after each of the above, and on a client's
  // new session, which begins the handshake.
  virtual void TakeOutput(std::string& ciphertext) = 0;
  virtual bool established() const = 0;
  virtual bool peer_closed() const = 0;           // close_notify received
  virtual std::string_view protocol() const = 0;  // ALPN's choice; "" = none
};

class TlsContext {
 public:
  // Errors name the option and the file.
  static Result<std::shared_ptr<TlsContext>> Server(const TlsServerOptions& options);
  static Result<std::shared_ptr<TlsContext>> Client(const TlsClientOptions& options);
  virtual ~TlsContext() = default;
  // `server_name`: client side only (SNI and verification; an IP address is verified as one).
  virtual std::unique_ptr<TlsSession> NewSession(const std::string& server_name) = 0;
  // Reads the files of the options again (on the calling thread); on an error what is in use stays.
  // No-op for a self-signed certificate.
  virtual Status Reload() = 0;
  // SHA-256 of the certificate in use, hex: for logs and tests.
  virtual std::string Fingerprint() const = 0;
};

}  // namespace warmpath::net
