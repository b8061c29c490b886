// The server on --metrics-port: metrics, health, the JSON API of the contract, and the dashboard.
//
// Owned by the running router. One loop of its own, so that load on the gateway cannot starve a
// probe; explain and tokenize of big bodies run on a thread of its own and cannot either. Reads
// everything from memory; changes nothing.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "admin/tokenizer_info.h"
#include "base/metrics.h"
#include "base/result.h"
#include "events/manager.h"
#include "fleet/fleet.h"
#include "index/kv_index.h"
#include "net/address.h"
#include "net/loop.h"
#include "net/tls.h"
#include "routing/director.h"

namespace warmpath::admin {

// What a protected path's reader may do.
enum class AdminAccess { kAllowed, kUnauthenticated, kForbidden, kUnavailable };
// Called on the server's loop with the bearer token ("" = none), the lower-case method and the
// path; answers exactly once, on any thread. Null: everybody may. /healthz and /readyz are never
// asked about.
using AdminAuthorize = std::function<void(std::string token, std::string verb, std::string path,
                                          std::function<void(AdminAccess)> answer)>;

struct AdminOptions {
  net::HostPort listen{"127.0.0.1", 9090};
  size_t max_body_bytes = size_t{64} << 20;  // of explain and tokenize; over it 413
  std::shared_ptr<net::TlsContext> tls{};    // null: plaintext
  AdminAuthorize authorize{};                // null: no authentication
};

struct Readiness {
  bool ready = false;
  std::string why_not;  // for people, "" when ready
};

// All outlive the server.
struct AdminDeps {
  Registry& metrics;
  fleet::Fleet& fleet;
  events::EventsManager* events;  // may be null
  index::KvIndex& index;
  routing::Director& director;
  std::function<Readiness()> readiness;        // any thread
  std::function<TokenizerInfo()> tokenizer{};  // any thread; null: cards do not show it
};

class AdminServer {
 public:
  // Binds at once (port 0 picks a free one); serves while `loop` runs.
  static Result<std::unique_ptr<AdminServer>> Create(net::Loop& loop, AdminOptions options,
                                                     AdminDeps deps);
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  uint16_t port() const;
  // Finishes the explanations at hand, gives their answers a second to leave, closes. Before the
  // loop stops; not from the loop. Idempotent.
  void Stop();

 private:
  struct Impl;
  explicit AdminServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmpath::admin
