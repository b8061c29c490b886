// What an exchange needs of the stream it stands on. Implemented over a gRPC stream by server.cc,
// in memory by tests. All of it on the stream's loop.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "net/grpc_server.h"

namespace warmpath::extproc {

class Sink {
 public:
  virtual ~Sink() = default;
  virtual void Send(std::string_view message) = 0;
  // One message in pieces.
  virtual void SendPieces(std::span<const std::string_view> pieces) {
    std::string message;
    for (const std::string_view piece : pieces) message += piece;
    Send(message);
  }
  virtual size_t queued_bytes() const = 0;
  virtual void SetReading(bool reading) = 0;
  virtual void MarkComplete() = 0;
  // The exchange hears nothing more afterwards.
  virtual void Finish(net::GrpcStatus status, std::string_view message) = 0;

  // Runs `work` on another thread, then `done` on the loop unless the exchange is gone by then.
  // False: there is no room for it now.
  [[nodiscard]] virtual bool Offload(std::function<void()> work, std::function<void()> done) = 0;
  // Exchange::OnDecisionTimeout is called after `delay` unless stopped.
  virtual void StartTimer(Duration delay) = 0;
  virtual void StopTimer() = 0;
};

// Bytes not yet taken by the peer above which an exchange sends or reads no more until OnDrain.
// Above GrpcServerOptions::low_water_bytes, whatever that is set to.
inline constexpr size_t kSendAhead = size_t{256} << 10;

}  // namespace warmpath::extproc
