#include "net/tcp_socket.h"

#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

namespace warmpath::net {
namespace {

error_code LastError() {
  return {errno, boost::system::system_category()};
}

error_code NotOpen() {
  return {EBADF, boost::system::system_category()};
}

}  // namespace

TcpSocket::TcpSocket(Reactor& reactor, int fd) : reactor_(&reactor), watch_(reactor.Add(fd)) {}

TcpSocket::~TcpSocket() {
  error_code ignored;
  close(ignored);
}

void TcpSocket::async_connect(const tcp::endpoint& endpoint, Reactor::Waiter connected) {
  error_code failed;
  const int fd =
      ::socket(endpoint.data()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
  if (fd < 0) {
    failed = LastError();
  } else if (::connect(fd, endpoint.data(), static_cast<socklen_t>(endpoint.size())) != 0 &&
             errno != EINPROGRESS) {
    failed = LastError();
    ::close(fd);
  }
  if (failed) {
    // Too large to be deferred with its waiter in place.
    auto held = std::make_unique<Reactor::Waiter>(std::move(connected));
    reactor_->Defer([held = std::move(held), failed] { (*held)(failed); });
    return;
  }
  watch_ = reactor_->Add(fd);
  auto held = std::make_unique<Reactor::Waiter>(std::move(connected));
  async_wait(wait_write, [held = std::move(held), fd](const error_code&) {
    int result = 0;
    socklen_t size = sizeof result;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &result, &size) != 0) result = errno;
    (*held)({result, boost::system::system_category()});
  });
}

void TcpSocket::async_wait(Reactor::Kind kind, Reactor::Waiter waiter) {
  if (watch_ != nullptr) reactor_->Wait(*watch_, kind, std::move(waiter));
}

void TcpSocket::cancel() {
  if (watch_ != nullptr) reactor_->Cancel(*watch_);
}

void TcpSocket::close(error_code& error) {
  error = {};
  if (watch_ == nullptr) return;
  const int fd = watch_->fd;
  reactor_->Remove(std::exchange(watch_, nullptr));
  if (::close(fd) != 0) error = LastError();
}

void TcpSocket::shutdown(ShutdownType type, error_code& error) {
  error = ::shutdown(native_handle(), type) == 0 ? error_code() : LastError();
}

void TcpSocket::SetOption(int level, int name, const void* data, size_t size, error_code& error) {
  const int result = setsockopt(native_handle(), level, name, data, static_cast<socklen_t>(size));
  error = result == 0 ? error_code() : LastError();
}

bool TcpSocket::quiet() {
  char byte = 0;
  if (watch_ == nullptr || recv(watch_->fd, &byte, 1, MSG_PEEK) >= 0 || errno != EAGAIN)
    return false;
  watch_->ready[wait_read] = false;
  return true;
}

size_t TcpSocket::read_some(asio::mutable_buffer buffer, error_code& error) {
  if (watch_ == nullptr) {
    error = NotOpen();
    return 0;
  }
  return Received(recv(watch_->fd, buffer.data(), buffer.size(), 0), buffer.size(), error);
}

size_t TcpSocket::read_some(asio::mutable_buffer first, asio::mutable_buffer second,
                            error_code& error) {
  if (watch_ == nullptr) {
    error = NotOpen();
    return 0;
  }
  const std::array<iovec, 2> pieces = {iovec{first.data(), first.size()},
                                       iovec{second.data(), second.size()}};
  return Received(readv(watch_->fd, pieces.data(), pieces.size()), first.size() + second.size(),
                  error);
}

size_t TcpSocket::Received(ssize_t size, size_t room, error_code& error) {
  if (size > 0) {
    error = {};
    // A short read took all there was: what comes after it is announced.
    if (static_cast<size_t>(size) < room && !watch_->ended) watch_->ready[wait_read] = false;
    return static_cast<size_t>(size);
  }
  if (size == 0) {
    error = asio::error::eof;
    return 0;
  }
  error = LastError();
  if (error == asio::error::would_block) watch_->ready[wait_read] = false;
  return 0;
}

size_t TcpSocket::write_some(asio::const_buffer buffer, error_code& error) {
  if (watch_ == nullptr) {
    error = NotOpen();
    return 0;
  }
  return Written(send(watch_->fd, buffer.data(), buffer.size(), MSG_NOSIGNAL), error);
}

size_t TcpSocket::write_some(std::string_view first, std::string_view second, error_code& error) {
  if (second.empty()) return write_some(asio::const_buffer(first.data(), first.size()), error);
  if (first.empty()) return write_some(asio::const_buffer(second.data(), second.size()), error);
  if (watch_ == nullptr) {
    error = NotOpen();
    return 0;
  }
  std::array<iovec, 2> pieces = {iovec{const_cast<char*>(first.data()), first.size()},
                                 iovec{const_cast<char*>(second.data()), second.size()}};
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  return Written(sendmsg(watch_->fd, &message, MSG_NOSIGNAL), error);
}

size_t TcpSocket::Written(ssize_t size, error_code& error) {
  if (size >= 0) {
    error = {};
    return static_cast<size_t>(size);
  }
  error = LastError();
  if (error == asio::error::would_block) watch_->ready[wait_write] = false;
  return 0;
}

}  // namespace warmpath::net
