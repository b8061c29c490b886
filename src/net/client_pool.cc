#include "net/client_pool.h"

#include <netinet/tcp.h>

#include <algorithm>
#include <utility>

namespace warmpath::net {

namespace {

constexpr size_t kManyHosts = 1024;

}  // namespace

ClientSocket::ClientSocket(Loop& loop)
    : TcpSocket(loop.impl().reactor),
      idle_deadline(loop.impl().wheel, [this] { pool->Drop(*this); }) {}

void ClientSocket::ProbeAfter(Duration silence) {
  if (silence <= Duration::zero()) return;
  using Seconds = std::chrono::seconds;
  const int first = std::max<int>(1, static_cast<int>(std::chrono::ceil<Seconds>(silence).count()));
  const int between = std::max(1, first / 2), probes = 3;
  error_code ignored;
  set_option(asio::socket_base::keep_alive(true), ignored);
  const int fd = native_handle();
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &first, sizeof first);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &between, sizeof between);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

std::unique_ptr<ClientSocket> ClientPool::Take(const std::string& host) {
  const auto found = hosts_.find(host);
  if (found == hosts_.end() || found->second.empty()) return nullptr;
  std::unique_ptr<ClientSocket> socket = std::move(found->second.back());
  found->second.pop_back();
  socket->idle_deadline.Clear();
  socket->cancel();  // the watch
  return socket;
}

void ClientPool::Put(const std::string& host, std::unique_ptr<ClientSocket> socket) {
  // Hosts come and go; one with nobody waiting is kept for a while, as it is usually asked again.
  if (hosts_.size() >= kManyHosts && !hosts_.contains(host)) {
    std::erase_if(hosts_, [](const auto& entry) { return entry.second.empty(); });
  }
  ClientSocket::Hosts::value_type& home = *hosts_.try_emplace(host).first;
  if (home.second.size() >= max_idle_per_host_) return;
  socket->pool = this;
  socket->host = &home;
  socket->idle_deadline.Set(idle_timeout_);
  Watch(*socket);
  home.second.push_back(std::move(socket));
}

void ClientPool::Watch(ClientSocket& socket) {
  socket.async_wait(TcpSocket::wait_read, [&socket](const error_code&) {
    // The last read may not have shown that there was no more.
    if (socket.quiet()) {
      Watch(socket);
    } else {
      socket.pool->Drop(socket);
    }
  });
}

void ClientPool::Drop(ClientSocket& socket) {
  ClientSocket::Idle& idle = socket.host->second;
  const auto place = std::find_if(idle.begin(), idle.end(),
                                  [&](const auto& held) { return held.get() == &socket; });
  if (place == idle.end()) return;
  const auto dropped = std::move(*place);
  idle.erase(place);
}

}  // namespace warmpath::net
