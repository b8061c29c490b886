// HTTP/1.1 client with pooled keep-alive connections, one per loop.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "net/address.h"
#include "net/http.h"
#include "net/loop.h"

namespace warmpath::net {

class TlsContext;

struct HttpClientOptions {
  Duration connect_timeout = std::chrono::seconds(2);
  Duration idle_pool_timeout =
      std::chrono::seconds(55);  // shorter than uvicorn's and our own keep-alive
  size_t max_idle_per_host = 256;
  size_t max_head_bytes = 64 << 10;
  // TCP probes after so long without a byte from the peer, and twice more half as long apart; zero:
  // none. For answers that may pause for minutes.
  Duration tcp_keepalive{};
  // For https; null: the server is verified against the system's authorities.
  std::shared_ptr<TlsContext> tls{};
};

// How a call failed decides whether it may be tried again elsewhere.
enum class CallFailure {
  kConnect,     // no connection, or no TLS session: nothing was sent
  kBeforeHead,  // connection lost after sending, before the response head was complete
  kAfterHead,   // lost, malformed or timed out in the body
  kTimeout,     // a deadline given by the caller passed before the head
  kProtocol,    // the peer's bytes are not HTTP/1.1
};

struct CallHandlers {
  // Called once, before any on_data. 1xx heads are skipped.
  std::function<void(HttpResponseHead)> on_head{};
  std::function<void(std::string_view)> on_data{};
  // Exactly one of these two, last; neither after Cancel.
  std::function<void()> on_end{};
  std::function<void(CallFailure, Error)> on_error{};
  // Of a streamed body: what was queued above kUploadHighWater is down to half of it.
  std::function<void()> on_drain{};
};

// Unsent bytes of a streamed body from which on the caller should wait for on_drain.
inline constexpr size_t kUploadHighWater = 64 << 10;

// A request body that follows through HttpCall::Write and End.
struct StreamedBody {
  std::optional<uint64_t> length{};  // none: sent in chunks
};

struct CallOptions {
  Duration head_timeout = std::chrono::minutes(10);  // from sending to the response head
  Duration idle_timeout = std::chrono::minutes(10);  // between two reads of the body
  // Sent instead of request.body when set: shared rather than copied by who may send it again.
  std::shared_ptr<const std::string> shared_body{};
  // Set: request.body and shared_body are not looked at.
  std::optional<StreamedBody> streamed_body{};
};

// Handle on a call in flight; destroying it cancels the call (its connection is closed).
// Loop-confined.
class HttpCall {
 public:
  virtual ~HttpCall() = default;
  virtual void Cancel() = 0;
  // Backpressure: no on_data between Pause and Resume.
  virtual void Pause() = 0;
  virtual void Resume() = 0;
  // A streamed body's next bytes; returns how many are queued and unsent. Bytes beyond a declared
  // length are dropped. No-ops once the call is over.
  virtual size_t Write(std::string_view bytes) = 0;
  virtual void End() = 0;
};

// Loop-confined: made on and used from one loop.
class HttpClient {
 public:
  static std::unique_ptr<HttpClient> Create(Loop& loop, HttpClientOptions options);
  virtual ~HttpClient() = default;

  // Sends `request` (target relative to url.base_path; Host, Content-Length added when absent; body
  // byte for byte). Handlers are never called from inside Send. A pooled connection that turns out
  // to be closed by the peer before any byte of the answer is replaced by a fresh one once,
  // silently; not when more than kUploadHighWater bytes of a streamed body were sent on it.
  // connect_timeout includes the TLS handshake.
  [[nodiscard]] virtual std::unique_ptr<HttpCall> Send(const Url& url, HttpRequest request,
                                                       CallOptions options,
                                                       CallHandlers handlers) = 0;
  // The whole answer (at most max_body bytes) or the failure, by `timeout` at the latest. Not
  // cancellable but by destroying the client.
  virtual void Fetch(const Url& url, HttpRequest request, Duration timeout, size_t max_body,
                     std::function<void(Result<HttpResponse>)> done) = 0;
};

// For command line tools: one request on a loop of its own, blocking.
Result<HttpResponse> FetchBlocking(const Url& url, HttpRequest request, Duration timeout,
                                   size_t max_body, std::shared_ptr<TlsContext> tls = nullptr);

}  // namespace warmpath::net
