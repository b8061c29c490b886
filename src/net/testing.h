// For tests of net and of what stands on it: a blocking TCP client that sees the very bytes, and
// waiting for a condition.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <string_view>
#include <thread>

#include "base/clock.h"

namespace warmpath::net::testing {

// True as soon as `condition` holds; false when it does not within `limit`.
template <typename Condition>
bool Eventually(Condition condition, Duration limit = std::chrono::seconds(10)) {
  const TimePoint until = SystemClock().Now() + limit;
  while (!condition()) {
    if (SystemClock().Now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

class RawClient {
 public:
  explicit RawClient(uint16_t port, int receive_buffer = 0) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0) {
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~RawClient() { Close(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool connected() const { return connected_; }
  const std::string& received() const { return received_; }
  bool reset() const { return reset_; }

  // All of it, or false when the peer stops taking it.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t size = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (size <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(size));
    }
    return true;
  }
  // Reads once, waiting at most `wait`; false at the end or when nothing came.
  bool ReadSome(Duration wait = std::chrono::seconds(10), size_t most = 64 << 10) {
    pollfd watch{fd_, POLLIN, 0};
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(wait).count();
    if (poll(&watch, 1, static_cast<int>(ms)) <= 0) return false;
    std::string buffer(most, '\0');
    const ssize_t size = recv(fd_, buffer.data(), buffer.size(), 0);
    if (size <= 0) {
      ended_ = true;
      reset_ = size < 0;
      return false;
    }
    received_.append(buffer, 0, static_cast<size_t>(size));
    return true;
  }
  bool ReadUntil(std::string_view text) {
    while (received_.find(text) == std::string::npos) {
      if (!ReadSome()) return false;
    }
    return true;
  }
  // Everything up to the peer's close; false when it did not close.
  bool ReadToEnd() {
    while (ReadSome()) {
    }
    return ended_;
  }
  void Forget() { received_.clear(); }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  // Closes so that the peer sees a reset.
  void Reset() {
    const linger now{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    Close();
  }

 private:
  int fd_;
  bool connected_ = false;
  bool ended_ = false;
  bool reset_ = false;
  std::string received_;
};

}  // namespace warmpath::net::testing
