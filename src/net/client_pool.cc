#include "net/client_pool.h"

#include <netinet/tcp.h>

#include <algorithm>
#include <utility>

namespace warmpath::net {

struct ClientPool::Idle {
  Idle(ClientPool& pool, DeadlineWheel& wheel, std::string name, std::unique_ptr<ClientSocket> s)
      : host(std::move(name)), socket(std::move(s)), deadline(wheel, [this, &pool] {
          // The pool's own reference may be the last one.
          pool.Drop(self.lock());
        }) {}

  const std::string host;
  std::unique_ptr<ClientSocket> socket;  // null once taken or dropped
  std::weak_ptr<Idle> self;
  Deadline deadline;
};

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

ClientPool::ClientPool(Loop& loop, Duration idle_timeout, size_t max_idle_per_host)
    : loop_(loop), idle_timeout_(idle_timeout), max_idle_per_host_(max_idle_per_host) {}

ClientPool::~ClientPool() {
  Clear();
}

std::unique_ptr<ClientSocket> ClientPool::Take(const std::string& host) {
  const auto found = hosts_.find(host);
  if (found == hosts_.end() || found->second.empty()) return nullptr;
  const std::shared_ptr<Idle> idle = std::move(found->second.back());
  found->second.pop_back();
  if (found->second.empty()) hosts_.erase(found);
  idle->deadline.Clear();
  idle->socket->cancel();  // the watch
  return std::move(idle->socket);
}

void ClientPool::Put(const std::string& host, std::unique_ptr<ClientSocket> socket) {
  auto& idle_here = hosts_[host];
  if (idle_here.size() >= max_idle_per_host_) return;
  auto idle = std::make_shared<Idle>(*this, loop_.impl().wheel, host, std::move(socket));
  idle->self = idle;
  idle->deadline.Set(idle_timeout_);
  idle_here.push_back(idle);
  Watch(idle);
}

void ClientPool::Watch(const std::shared_ptr<Idle>& idle) {
  idle->socket->async_wait(TcpSocket::wait_read,
                           [weak = weak_from_this(), idle](const error_code&) {
                             const auto self = weak.lock();
                             if (!self || !idle->socket) return;
                             // The last read may not have shown that there was no more.
                             if (idle->socket->quiet()) {
                               self->Watch(idle);
                             } else {
                               self->Drop(idle);
                             }
                           });
}

void ClientPool::Drop(const std::shared_ptr<Idle>& idle) {
  if (!idle) return;
  idle->deadline.Clear();
  idle->socket.reset();
  const auto found = hosts_.find(idle->host);
  if (found == hosts_.end()) return;
  std::erase(found->second, idle);
  if (found->second.empty()) hosts_.erase(found);
}

void ClientPool::Clear() {
  const auto hosts = std::exchange(hosts_, {});
  for (const auto& [host, idle_here] : hosts) {
    for (const auto& idle : idle_here) {
      idle->deadline.Clear();
      idle->socket.reset();
    }
  }
}

}  // namespace warmpath::net
