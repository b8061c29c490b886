// For tests: certificates of an authority of the test's own, and pairs of sessions joined in
// memory.
#pragma once

#include <openssl/pem.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "base/hash.h"
#include "net/tls.h"
#include "net/tls_certificate.h"

namespace warmpath::net::testing {

// A directory that goes with its owner.
class TestDirectory {
 public:
  TestDirectory()
      : path_(std::filesystem::temp_directory_path() / ("warmpath-test-" + RandomUuid())) {
    std::filesystem::create_directories(path_);
  }
  ~TestDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;

  std::string Path(const std::string& name) const { return path_ / name; }
  std::string path() const { return path_; }
  // Replaces a file the way careful writers do: never half written.
  std::string Write(const std::string& name, std::string_view content) const {
    const std::string file = Path(name);
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    std::ofstream(file + ".new") << content;
    std::filesystem::rename(file + ".new", file);
    return file;
  }

 private:
  const std::filesystem::path path_;
};

inline std::string Pem(X509* certificate) {
  BIO* memory = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(memory, certificate);
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(memory, &bytes);
  std::string text(bytes, static_cast<size_t>(size));
  BIO_free(memory);
  return text;
}

// Encrypted when there is a passphrase.
inline std::string Pem(EVP_PKEY* key, const std::string& passphrase = {}) {
  BIO* memory = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(memory, key, passphrase.empty() ? nullptr : EVP_aes_128_cbc(),
                           reinterpret_cast<const unsigned char*>(passphrase.data()),
                           static_cast<int>(passphrase.size()), nullptr, nullptr);
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(memory, &bytes);
  std::string text(bytes, static_cast<size_t>(size));
  BIO_free(memory);
  return text;
}

struct Identity {
  CertificatePtr certificate;
  KeyPtr key;
  std::string cert_pem() const { return Pem(certificate.get()); }
  std::string key_pem() const { return Pem(key.get()); }
};

class Authority {
 public:
  explicit Authority(const std::string& name = "test authority") {
    CertificateSpec spec;
    spec.common_name = name;
    spec.valid_from = -std::chrono::hours(1);
    spec.valid_to = std::chrono::hours(24);
    spec.authority = true;
    self_.key = MakeKey().value();
    self_.certificate = MakeCertificate(spec, self_.key.get()).value();
  }
  std::string pem() const { return self_.cert_pem(); }
  // Valid for the names given ("DNS:a,IP:127.0.0.1") from `from` to `to`.
  Identity Issue(const std::string& names, bool client = false,
                 std::chrono::seconds from = -std::chrono::hours(1),
                 std::chrono::seconds to = std::chrono::hours(24)) const {
    CertificateSpec spec;
    spec.common_name = "leaf";
    spec.alternative_names = names;
    spec.valid_from = from;
    spec.valid_to = to;
    spec.client = client;
    Identity identity;
    identity.key = MakeKey().value();
    const Issuer issuer{self_.certificate.get(), self_.key.get()};
    identity.certificate = MakeCertificate(spec, identity.key.get(), &issuer).value();
    return identity;
  }

 private:
  Identity self_;
};

// The authorities of a test run, made once: keys take a while.
inline const Authority& TestAuthority() {
  static const Authority authority;
  return authority;
}
inline const Authority& OtherAuthority() {
  static const Authority authority("other authority");
  return authority;
}
// For engine.test, 127.0.0.1 and ::1.
inline const Identity& TestServer() {
  static const Identity identity =
      TestAuthority().Issue("DNS:engine.test,DNS:localhost,IP:127.0.0.1,IP:::1");
  return identity;
}

inline std::string WriteIdentity(const TestDirectory& directory, const std::string& name,
                                 const Identity& identity) {
  directory.Write(name + "/tls.crt", identity.cert_pem());
  directory.Write(name + "/tls.key", identity.key_pem());
  return directory.Path(name);
}

// Two sessions, each other's peer. Bytes move by Pump, `step` at a time.
struct SessionPair {
  std::unique_ptr<TlsSession> client;
  std::unique_ptr<TlsSession> server;
  std::string client_got{};
  std::string server_got{};
  Status client_status{};
  Status server_status{};

  static void Move(TlsSession& from, TlsSession& to, std::string& got, Status& status, size_t step,
                   bool& moved) {
    std::string wire;
    from.TakeOutput(wire);
    for (size_t at = 0; at < wire.size(); at += step) {
      moved = true;
      const Status fed = to.Feed(std::string_view(wire).substr(at, step), got);
      if (!fed) status = fed;
    }
  }
  // Until neither has anything for the other.
  void Pump(size_t step = SIZE_MAX / 2) {
    bool moved = true;
    while (moved) {
      moved = false;
      Move(*client, *server, server_got, server_status, step, moved);
      Move(*server, *client, client_got, client_status, step, moved);
    }
  }
};

}  // namespace warmpath::net::testing
