// gRPC server: HTTP/2 by nghttp2 on our own loops, length-prefixed messages, status trailers.
//
// Server side only, identity encoding only (a compressed message ends its stream with
// UNIMPLEMENTED). A stream stays on the loop of its connection. Faults of one stream end that
// stream; faults of the connection's framing end the connection.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "net/address.h"
#include "net/loop.h"
#include "net/tls.h"

namespace warmpath::net {

enum class GrpcStatus : int {
  kOk = 0,
  kCancelled = 1,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
};

// One RPC as its service sees it. Loop-confined. After Finish, or after the handler's OnGone, every
// call is a no-op.
class GrpcStream {
 public:
  virtual ~GrpcStream() = default;
  virtual Loop& loop() = 0;
  virtual std::string_view peer() const = 0;  // "127.0.0.1:54321"

  // Queues one message. It leaves as HTTP/2 flow control permits; queued_bytes() tells how much
  // has not been handed to the socket.
  virtual void Send(std::string_view message) = 0;
  // One message in pieces.
  virtual void SendPieces(std::span<const std::string_view> pieces) {
    std::string message;
    for (const std::string_view piece : pieces) message += piece;
    Send(message);
  }
  virtual size_t queued_bytes() const = 0;
  // No window is given back for received messages while paused, so the peer stops sending once its
  // window is used up.
  virtual void SetReading(bool reading) = 0;
  // The exchange is complete for the service: what follows, the peer's RST_STREAM included, is its
  // normal end. It neither counts as a reset nor calls OnGone.
  virtual void MarkComplete() = 0;
  // Sends what is queued, then the status. `message` is for people; percent-encoded on the wire.
  virtual void Finish(GrpcStatus status, std::string_view message = {}) = 0;
};

// The service's end of one RPC, made by the service for each stream. Loop-confined; destroyed when
// the stream is over. No callback comes after OnGone or after the handler called Finish.
class GrpcHandler {
 public:
  virtual ~GrpcHandler() = default;
  // Valid during the call only.
  virtual void OnMessage(std::string_view message) = 0;
  virtual void OnHalfClose() = 0;  // the peer sent its last message
  virtual void OnDrain() {}        // queued_bytes() fell below the low-water mark
  // Reset or connection lost before MarkComplete or Finish.
  virtual void OnGone() = 0;
};

struct GrpcServerOptions {
  size_t max_message_bytes = size_t{4} << 20;  // received; over it RESOURCE_EXHAUSTED
  uint32_t max_concurrent_streams = 10'000;    // per connection
  // Received parts of messages that are not complete, of all connections together; over it the
  // stream that adds to them ends with RESOURCE_EXHAUSTED. (Of headers nothing is kept.)
  size_t max_held_bytes = size_t{512} << 20;
  size_t max_connections = 1'024;
  size_t max_header_bytes = 64 << 10;
  uint32_t stream_window = 256 << 10;
  uint32_t connection_window = 16 << 20;
  size_t low_water_bytes = 64 << 10;  // OnDrain
  // Streams reset by the peer before they were complete, per connection: more per second on average
  // than this (with a burst of twenty times as many) ends the connection with ENHANCE_YOUR_CALM.
  double max_resets_per_second = 50;
  Duration handshake_timeout = std::chrono::seconds(10);  // to the first SETTINGS
  Duration write_timeout = std::chrono::seconds(60);      // no byte accepted by the peer: closed
  Duration ping_interval = std::chrono::seconds(60);  // idle connections; two unanswered: closed
  std::shared_ptr<TlsContext> tls{};                  // null: plaintext
};

class GrpcServer {
 public:
  // `path` is "/package.Service/Method". Returns null for a method nobody serves (UNIMPLEMENTED).
  // Called on the stream's loop; the stream outlives the handler.
  using Service =
      std::function<std::unique_ptr<GrpcHandler>(std::string_view path, GrpcStream& stream)>;
  // Binds at once (port 0 picks a free one), one SO_REUSEPORT socket per loop; serves when the
  // loops run.
  static Result<std::unique_ptr<GrpcServer>> Listen(LoopGroup& loops, const HostPort& address,
                                                    GrpcServerOptions options, Service service);
  static Result<std::unique_ptr<GrpcServer>> Listen(Loop& loop, const HostPort& address,
                                                    GrpcServerOptions options, Service service);
  virtual ~GrpcServer() = default;
  virtual HostPort address() const = 0;
  virtual size_t connections() const = 0;
  virtual size_t streams() const = 0;
  // GOAWAY to every connection: streams under way go on, new ones are refused. New connections are
  // still accepted (health checks must see "draining"). Any thread but the loops'.
  virtual void Drain() = 0;
  // Drain, stops accepting, waits until the last stream ended or `deadline` passed, then closes
  // everything. Idempotent. Any thread but the loops'.
  virtual void Stop(Duration deadline) = 0;
};

}  // namespace warmpath::net
