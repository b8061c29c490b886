#include "net/tls_stream.h"

#include <algorithm>
#include <utility>

namespace warmpath::net {
namespace {

constexpr size_t kPlaintextInFlight = 32 << 10;
constexpr size_t kKeptCapacity = 4 << 10;

}  // namespace

TlsStream::TlsStream(std::unique_ptr<TlsSession> session) : session_(std::move(session)) {
  error_code in_reason;
  Check(session_->Write({}), in_reason);
}

bool TlsStream::Check(const Status& status, error_code& error) {
  session_->TakeOutput(wire_);
  if (status) return true;
  reason_ = status.error().message;
  error = make_error_code(boost::system::errc::protocol_error);
  return false;
}

void TlsStream::ReadSome(Loop& loop, TcpSocket& socket, std::string_view& plaintext,
                         error_code& error) {
  plaintext = {};
  if (session_->peer_closed()) {
    error = asio::error::eof;
    return;
  }
  auto& scratch = loop.impl().scratch;
  const size_t size = socket.read_some(asio::buffer(scratch), error);
  if (error) return;
  std::string& decrypted = loop.impl().plaintext;
  decrypted.clear();
  const Status fed = session_->Feed({scratch.data(), size}, decrypted);
  if (!Check(fed, error)) {
    error_code ignored;
    Send(socket, ignored);  // the alert
    return;
  }
  plaintext = decrypted;
  if (plaintext.empty() && session_->peer_closed()) error = asio::error::eof;
}

size_t TlsStream::WriteSome(TcpSocket& socket, std::string_view first, std::string_view second,
                            error_code& error) {
  error = {};
  if (has_output()) {
    Send(socket, error);
    if (error) return 0;
  }
  if (first.empty() && second.empty()) return 0;
  first = first.substr(0, kPlaintextInFlight);
  second = second.substr(0, kPlaintextInFlight - first.size());
  if (!Check(session_->Write(first), error) || !Check(session_->Write(second), error)) return 0;
  Send(socket, error);
  if (error == asio::error::would_block) error = {};  // taken, if not yet sent
  return first.size() + second.size();
}

void TlsStream::Send(TcpSocket& socket, error_code& error) {
  while (has_output()) {
    const size_t size = socket.write_some(
        asio::buffer(wire_.data() + wire_sent_, wire_.size() - wire_sent_), error);
    if (error == asio::error::interrupted) {
      error = {};
      continue;
    }
    if (error) return;
    wire_sent_ += size;
  }
  wire_.clear();
  if (wire_.capacity() > kKeptCapacity) wire_ = std::string();
  wire_sent_ = 0;
}

void TlsStream::Close(TcpSocket& socket) {
  session_->Close();
  session_->TakeOutput(wire_);
  error_code ignored;
  Send(socket, ignored);
}

}  // namespace warmpath::net
