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

class ClientPool;

struct ClientSocket : TcpSocket {
  using Idle = std::vector<std::unique_ptr<ClientSocket>>;
  using Hosts = std::unordered_map<std::string, Idle>;

  explicit ClientSocket(Loop& loop);
  void ProbeAfter(Duration silence);  // HttpClientOptions::tcp_keepalive

  std::unique_ptr<TlsStream> tls;  // null: plaintext
  // While it waits in a pool.
  ClientPool* pool = nullptr;
  Hosts::value_type* host = nullptr;
  Deadline idle_deadline;
};

// Connections waiting for their next request. Bytes or a close from the peer while one waits make
// it useless.
class ClientPool {
 public:
  ClientPool(Duration idle_timeout, size_t max_idle_per_host)
      : idle_timeout_(idle_timeout), max_idle_per_host_(max_idle_per_host) {}

  // The connection used last, or null.
  std::unique_ptr<ClientSocket> Take(const std::string& host);
  void Put(const std::string& host, std::unique_ptr<ClientSocket> socket);
  void Drop(ClientSocket& socket);  // one that waits here
  void Clear() { hosts_.clear(); }

 private:
  static void Watch(ClientSocket& socket);

  const Duration idle_timeout_;
  const size_t max_idle_per_host_;
  ClientSocket::Hosts hosts_;  // some with none waiting
};

}  // namespace warmpath::net
