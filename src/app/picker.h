// The endpoint picker's listeners: ext_proc on --grpc-port (TLS unless told otherwise), gRPC health
// on --grpc-health-port, and the certificate's live reload.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "app/serve.h"
#include "extproc/server.h"
#include "net/file_watch.h"
#include "net/loop.h"
#include "net/tls.h"

namespace warmpath::app {

// Create binds; the loops' owner starts them. Not thread-safe; the servers are.
class Picker {
 public:
  struct Deps {
    net::LoopGroup& loops;   // ext_proc
    net::Loop& health_loop;  // kept free of request work
    extproc::ExtProcDeps router;
  };
  // `base` carries what does not come from PickerOptions (limits, deadlines, parsers).
  static Result<std::unique_ptr<Picker>> Create(const PickerOptions& options,
                                                extproc::ExtProcOptions base, Deps deps);

  // On `loop`'s thread: begins, and ends, watching the certificate.
  void WatchCertificate(net::Loop& loop);
  void StopWatching() { watch_.reset(); }
  // Exchanges under way may end until `deadline`; health answers until then.
  void Stop(Duration deadline);

  std::string grpc_address() const { return server_->address().ToString(); }
  std::string health_address() const { return health_->address().ToString(); }
  size_t connections() const { return server_->connections(); }

 private:
  explicit Picker(PickerOptions options) : options_(std::move(options)) {}

  const PickerOptions options_;
  std::shared_ptr<net::TlsContext> tls_;  // null: plaintext
  std::unique_ptr<extproc::ExtProcServer> server_;
  std::unique_ptr<extproc::HealthServer> health_;
  std::unique_ptr<net::FileWatch> watch_;
};

}  // namespace warmpath::app
