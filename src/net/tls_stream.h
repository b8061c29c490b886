// Internal to net: a TLS session on a socket, with the calls of a plain non-blocking one.
// Loop-confined.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "net/loop_impl.h"
#include "net/tls.h"

namespace warmpath::net {

class TlsStream {
 public:
  // reason() is not empty when the session cannot even begin.
  explicit TlsStream(std::unique_ptr<TlsSession> session);

  // Reads ciphertext once. `plaintext` is what it held: often nothing, and valid until the loop's
  // next read. Errors: would_block; eof after close_notify or with the connection cut (see
  // peer_closed); protocol_error for what reason() says. What there is to answer is sent by the
  // next WriteSome: ask has_output.
  void ReadSome(Loop& loop, TcpSocket& socket, std::string_view& plaintext, error_code& error);
  // Takes as much of `first` and then `second` as may be in flight and returns how much that was;
  // would_block when the socket takes nothing and so neither does this. Also sends, without
  // plaintext, what the session has to say.
  size_t WriteSome(TcpSocket& socket, std::string_view first, std::string_view second,
                   error_code& error);
  // close_notify, as far as the socket takes it at once.
  void Close(TcpSocket& socket);

  bool established() const { return session_->established(); }
  bool peer_closed() const { return session_->peer_closed(); }
  bool has_output() const { return wire_sent_ < wire_.size(); }
  const std::string& reason() const { return reason_; }

 private:
  bool Check(const Status& status, error_code& error);
  void Send(TcpSocket& socket, error_code& error);

  const std::unique_ptr<TlsSession> session_;
  std::string wire_;  // ciphertext for the peer
  size_t wire_sent_ = 0;
  std::string reason_;
};

}  // namespace warmpath::net
