// Internal to net: a listening socket with SO_REUSEPORT on one loop, and the rules for accepting:
// bounded per turn, out of descriptors backs off. Loop-confined, but for Bind and port before the
// loop serves.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/address.h"
#include "net/loop_impl.h"

namespace warmpath::net {

std::string EndpointText(const tcp::endpoint& endpoint);

class Listener : public std::enable_shared_from_this<Listener> {
 public:
  using Accepted = std::function<void(TcpSocket socket, const tcp::endpoint& peer)>;

  explicit Listener(Loop& loop) : loop_(loop) {}
  ~Listener();

  // One per loop, all bound to `address` (port 0: the same free one); a port that someone listens
  // on is an error, although SO_REUSEPORT would share it.
  static Result<std::vector<std::shared_ptr<Listener>>> BindAll(const std::vector<Loop*>& loops,
                                                                const HostPort& address);

  Loop& loop() { return loop_; }
  uint16_t port() const;
  // Each connection accepted is handed to `accepted`, non-blocking.
  void Serve(Accepted accepted);
  void Close();  // also drops `accepted`

 private:
  Status Bind(const tcp::endpoint& endpoint);
  void Watch();
  void AcceptAll();

  Loop& loop_;
  int fd_ = -1;
  Reactor::Watch* watch_ = nullptr;  // while it serves
  Accepted accepted_;
  Timer backoff_;
};

}  // namespace warmpath::net
