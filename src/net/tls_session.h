// Internal to net: one TLS session over memory. Confined to its connection's loop.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <string_view>

#include "net/tls.h"
#include "net/tls_certificate.h"

namespace warmpath::net {

// What a session takes from its context and keeps while that may be reloaded. Immutable.
struct TlsMaterial {
  SslContextPtr context;
  std::string alpn;  // as on the wire: each name after its length
  bool server = false;
  bool verify = false;      // client: the server's chain and name
  std::string server_name;  // client: instead of the one a session is made with; "" = that
};

class OpenSslSession final : public TlsSession {
 public:
  OpenSslSession(std::shared_ptr<const TlsMaterial> material, const std::string& server_name);
  ~OpenSslSession() override;

  Status Feed(std::string_view ciphertext, std::string& plaintext) override;
  Status Write(std::string_view plaintext) override;
  void Close() override;
  void TakeOutput(std::string& ciphertext) override;
  bool established() const override { return established_; }
  bool peer_closed() const override { return peer_closed_; }
  std::string_view protocol() const override;

 private:
  struct Memory;  // the library's view of our buffers

  bool Begin(const std::string& server_name);
  Status Handshake();
  Status ReadAll(std::string& plaintext);
  Status Broken(int result);
  tl::unexpected<Error> EndWith(Code code, std::string why);

  const std::shared_ptr<const TlsMaterial> material_;
  std::unique_ptr<SSL, OpenSslDelete<SSL_free>> ssl_;
  std::string_view input_;  // during Feed
  std::string output_;
  std::string early_;  // written before the handshake was done
  Error error_;        // of a session that ended by one
  bool failed_ = false;
  bool established_ = false;
  bool closed_ = false;  // by us
  bool peer_closed_ = false;
  int idle_messages_ = 0;  // key updates that no plaintext made up for
  size_t plaintext_ = 0;   // read since the last that did
};

}  // namespace warmpath::net
