// Internal to net: a non-blocking TCP socket on a reactor. Loop-confined; closed when destroyed.
//
// The calls are those of an Asio socket. Waiters must be prepared never to be called: Cancel and
// close drop them.
#pragma once

#include <sys/socket.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <string_view>
#include <utility>

#include "net/reactor.h"

namespace warmpath::net {

namespace asio = boost::asio;
using asio::ip::tcp;

class TcpSocket {
 public:
  static constexpr Reactor::Kind wait_read = Reactor::kRead;
  static constexpr Reactor::Kind wait_write = Reactor::kWrite;
  static constexpr Reactor::Kind wait_error = Reactor::kError;
  enum ShutdownType { shutdown_send = SHUT_WR };

  explicit TcpSocket(Reactor& reactor) : reactor_(&reactor) {}
  TcpSocket(Reactor& reactor, int fd);  // takes a connected non-blocking one
  TcpSocket(TcpSocket&& other) noexcept
      : reactor_(other.reactor_), watch_(std::exchange(other.watch_, nullptr)) {}
  ~TcpSocket();
  TcpSocket(const TcpSocket&) = delete;
  TcpSocket& operator=(const TcpSocket&) = delete;

  // Opens a socket; `connected` is called from a later turn.
  void async_connect(const tcp::endpoint& endpoint, Reactor::Waiter connected);
  void async_wait(Reactor::Kind kind, Reactor::Waiter waiter);
  void cancel();
  void close(error_code& error);
  void shutdown(ShutdownType type, error_code& error);
  bool is_open() const { return watch_ != nullptr; }
  int native_handle() const { return watch_ == nullptr ? -1 : watch_->fd; }

  template <typename Option>
  void set_option(const Option& option, error_code& error) {
    SetOption(option.level(tcp::v4()), option.name(tcp::v4()), option.data(tcp::v4()),
              option.size(tcp::v4()), error);
  }

  // Nothing to read, and not the end either: asks the system.
  bool quiet();
  // Errors: would_block, eof, and what the system says.
  size_t read_some(asio::mutable_buffer buffer, error_code& error);
  // Fills the first, then the second.
  size_t read_some(asio::mutable_buffer first, asio::mutable_buffer second, error_code& error);
  size_t write_some(asio::const_buffer buffer, error_code& error);
  // As one write.
  size_t write_some(std::string_view first, std::string_view second, error_code& error);

 private:
  void SetOption(int level, int name, const void* data, size_t size, error_code& error);
  size_t Received(ssize_t size, size_t room, error_code& error);
  size_t Written(ssize_t size, error_code& error);

  Reactor* reactor_;
  Reactor::Watch* watch_ = nullptr;  // null: not open
};

}  // namespace warmpath::net
