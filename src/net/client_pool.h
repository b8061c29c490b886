// Internal to net: idle keep-alive connections of one client, by host. Loop-confined.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "net/deadline_wheel.h"
#include "net/loop_impl.h"
#include "net/tls_stream.h"

namespace warmpath::net {

struct ClientSocket : TcpSocket {
  using TcpSocket::TcpSocket;
  void ProbeAfter(Duration silence);  // HttpClientOptions::tcp_keepalive
  std::unique_ptr<TlsStream> tls;     // null: plaintext
};

// A connection waiting for its next request. Bytes or a close from the peer while it waits make it
// useless.
class ClientPool : public std::enable_shared_from_this<ClientPool> {
 public:
  ClientPool(Loop& loop, Duration idle_timeout, size_t max_idle_per_host);
  ~ClientPool();

  // The connection used last, or null.
  std::unique_ptr<ClientSocket> Take(const std::string& host);
  void Put(const std::string& host, std::unique_ptr<ClientSocket> socket);
  void Clear();

 private:
  struct Idle;
  void Watch(const std::shared_ptr<Idle>& idle);
  void Drop(const std::shared_ptr<Idle>& idle);

  Loop& loop_;
  const Duration idle_timeout_;
  const size_t max_idle_per_host_;
  std::unordered_map<std::string, std::vector<std::shared_ptr<Idle>>> hosts_;
};

}  // namespace warmpath::net
