// Lets requests of the metrics port through once their bearer token has been found good. Nothing
// waits: a request is put aside until the answer comes, its client goes away, or it took too long.
//
// Made and closed by the server; Admit on its loop. Answers may come on any thread, at any time,
// also after the end.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "admin/admin_server.h"
#include "base/mutex.h"
#include "net/http_server.h"

namespace warmpath::admin {

class Gatekeeper : public std::enable_shared_from_this<Gatekeeper> {
 public:
  // `loop` outlives Close. A null `authorize` lets everybody through.
  Gatekeeper(net::Loop& loop, AdminAuthorize authorize,
             Duration deadline = std::chrono::seconds(10));

  // Calls `pass` on the loop, maybe at once, or answers the refusal: 401, 403 or 503.
  void Admit(std::shared_ptr<net::HttpExchange> exchange, std::function<void()> pass);
  // Any thread. Whoever still waits is answered 503, and nobody passes any more.
  void Close();

 private:
  struct Waiting {
    std::shared_ptr<net::HttpExchange> exchange;
    std::function<void()> pass;
    net::Timer deadline;
  };

  void Tell(uint64_t id, AdminAccess access);     // any thread
  void Resolve(uint64_t id, AdminAccess access);  // on the loop; once counts

  net::Loop& loop_;
  const AdminAuthorize authorize_;
  const Duration deadline_;
  uint64_t next_ = 0;
  std::unordered_map<uint64_t, Waiting> waiting_;
  bool shut_ = false;  // as the loop knows it

  Mutex mutex_;
  bool closed_ GUARDED_BY(mutex_) = false;  // then the loop may be gone
};

// Of the one Authorization header, if its scheme is Bearer; "" = none.
std::string BearerToken(const net::Headers& headers);

}  // namespace warmpath::admin
