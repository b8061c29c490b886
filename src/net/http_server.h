// HTTP/1.1 server: strict framing, keep-alive, whole request bodies up to a limit, whole or
// streamed answers with backpressure.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "net/address.h"
#include "net/http.h"
#include "net/loop.h"

namespace warmpath::net {

class TlsContext;

// One request being answered. Loop-confined to the loop the handler was called on. The server keeps
// it alive until it is answered and closed; the handler may keep the shared_ptr for as long as it
// likes: after the connection is gone every call is a no-op.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  // Mutable so that a handler can move the body out.
  virtual HttpRequest& request() = 0;
  virtual Loop& loop() = 0;

  // The whole answer; Content-Length is added. Call once, instead of Begin.
  virtual void Respond(int status, Headers headers, std::string body) = 0;
  // A streamed answer: head now (Content-Length in `headers` if known, otherwise chunked), then
  // Write*, then End.
  virtual void Begin(int status, Headers headers) = 0;
  // Queues bytes; returns how many bytes are queued and unsent. Above high_water() the caller
  // should stop until OnDrain.
  virtual size_t Write(std::string_view bytes) = 0;
  virtual void End() = 0;
  // Ends a streamed answer so that the client sees it is incomplete (connection reset).
  virtual void Abort() = 0;

  virtual size_t high_water() const = 0;
  virtual bool closed() const = 0;  // the client went away, or the answer is complete
  // At most one of each. OnClose fires once, when the client goes away before the answer is
  // complete. It is watched for while the request is being handled, streamed or not.
  virtual void OnClose(std::function<void()> gone) = 0;
  virtual void OnDrain(std::function<void()> drained) = 0;

  // Of a server with stream_bodies: request().body is empty and its content, if there is any,
  // comes through ReadBody: pieces, then the end, from later turns of the loop. Neither after the
  // client went away or the answer is complete. Nothing is read before; call at most once.
  virtual bool has_content() const = 0;
  virtual void ReadBody(std::function<void(std::string_view)> on_data,
                        std::function<void()> on_end) = 0;
  // Backpressure: no on_data between PauseBody and ResumeBody.
  virtual void PauseBody() = 0;
  virtual void ResumeBody() = 0;
};

// Is shown all that has arrived of a body; returns how much that must be to be shown it again.
using BodyWatcher = std::function<size_t(std::string_view begun)>;

struct HttpServerOptions {
  size_t max_head_bytes = 64 << 10;  // over it: 431
  size_t max_headers = 128;          // over it: 431
  // The handler is called when a request's head is complete; it reads the content as it arrives. An
  // answer that begins before the content ended is the connection's last.
  bool stream_bodies = false;
  size_t max_body_bytes = size_t{64} << 20;  // over it: 413
  size_t high_water_bytes = 32 << 10;  // a client that does not read costs about three times this
  size_t max_connections = 10'000;     // over it: accepted and closed at once
  Duration head_timeout =
      std::chrono::seconds(10);  // first byte of a request to the end of its head: 408
  Duration body_timeout = std::chrono::seconds(60);  // between two reads of a body: 408
  // Slower bodies, beyond the first body_timeout: 408. Not of streamed ones.
  uint64_t min_body_bytes_per_second = 1 << 10;
  // Asked on the loop for who watches a body of which so much has arrived, and not all so long
  // after its head; empty: nobody. `length`: as declared, else 0. The watcher is called on the
  // loop, while more is to come, and dropped when the body is whole or given up. Not of streamed
  // ones.
  std::function<BodyWatcher(const HttpRequest& head, uint64_t length)> watch_body{};
  size_t watch_body_from = 64 << 10;
  Duration watch_body_after = std::chrono::milliseconds(20);
  Duration idle_timeout = std::chrono::seconds(75);   // keep-alive between requests: closed
  Duration write_timeout = std::chrono::seconds(60);  // no byte accepted by the client: closed
  std::string server_name{};                          // Server header; empty: none
  std::shared_ptr<TlsContext> tls{};                  // null: plaintext
  // Body of an error the server answers itself (bad framing 400, 408, 413, 431, 501); JSON by
  // default, OpenAI-shaped.
  std::function<std::string(int status, std::string_view reason)> error_body{};
  // More headers of such an answer, from what was read of the request's.
  std::function<Headers(const Headers& request)> error_headers{};
};

// On the loop: gives back a body that came with a request, once nobody needs it. Large ones are
// used again for requests to come.
void RecycleBody(Loop& loop, std::string body);

// Listens on one address with a SO_REUSEPORT socket per loop of the group. `handler` is called on
// the loop of the connection.
class HttpServer {
 public:
  using Handler = std::function<void(std::shared_ptr<HttpExchange>)>;
  // Binds at once (port 0 picks a free one); serves when the loops run.
  static Result<std::unique_ptr<HttpServer>> Listen(LoopGroup& loops, const HostPort& address,
                                                    HttpServerOptions options, Handler handler);
  // A server on one loop only.
  static Result<std::unique_ptr<HttpServer>> Listen(Loop& loop, const HostPort& address,
                                                    HttpServerOptions options, Handler handler);
  virtual ~HttpServer() = default;
  virtual uint16_t port() const = 0;
  virtual HostPort address() const = 0;
  virtual size_t connections() const = 0;
  // Stops accepting and closes idle connections; requests at hand go on, with "Connection: close".
  // Any thread but the loops'.
  virtual void StopAccepting() = 0;
  // StopAccepting, then waits until the last request ended or `deadline` passed, then closes
  // everything. Idempotent.
  virtual void Stop(Duration deadline) = 0;
};

}  // namespace warmpath::net
