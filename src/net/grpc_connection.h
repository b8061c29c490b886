// Internal to net: one accepted connection of a gRPC server: a socket, perhaps a TLS session, and
// an Http2Session. Loop-confined; kept alive by its listener's set and by the operations it has
// under way.
//
// What a turn of the loop produced is sent by one write. While the peer does not take what is
// queued, at most a frame more than kOutputBytes wait here, the rest stays in the streams; and
// nothing more is read once it lets control frames pile up.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/mutex.h"
#include "net/deadline_wheel.h"
#include "net/grpc_server.h"
#include "net/http2_session.h"
#include "net/loop_impl.h"
#include "net/tls.h"

namespace warmpath::net {

// What all connections of a server share. Thread-safe.
struct GrpcShared {
  GrpcServerOptions options;
  GrpcServer::Service service;
  std::atomic<size_t> connections{0};
  std::atomic<size_t> streams{0};
  std::atomic<size_t> held_bytes{0};
  std::atomic<bool> stopping{false};

  Mutex mutex;
  CondVar changed;  // streams fell to 0 while stopping

  void RemoveStream() EXCLUDES(mutex);
};

class GrpcConnection final : public std::enable_shared_from_this<GrpcConnection>,
                             private Http2Session::Host {
 public:
  // `gone` is called once, when the socket is closed.
  GrpcConnection(Loop& loop, TcpSocket socket, std::string peer, std::shared_ptr<GrpcShared> shared,
                 std::function<void()> gone);
  ~GrpcConnection();

  void Start();
  void Drain();
  // Ends every stream, says GOAWAY if the socket takes it, closes.
  void Close();

 private:
  // kLinger: all is said; what the peer still sends is read and dropped.
  enum class State { kOpen, kLinger, kClosed };

  Loop& loop() override { return loop_; }
  std::string_view peer() const override { return peer_; }
  TimePoint Now() const override { return SystemClock().Now(); }
  void OnWork() override;
  void OnStreamBegin() override { ++shared_->streams; }
  void OnStreamEnd() override { shared_->RemoveStream(); }

  void WatchRead();
  void WatchWrite();
  void OnReadable();
  bool Receive(std::string_view bytes);  // false: the connection is over, but for its last output
  bool ReceiveTls(std::string_view bytes);
  void Flush();
  void Fill();
  void FailWith(std::string_view reason);
  void EndAfterOutput();
  void ArmStreamDeadline();
  void IdleExpired();
  void Shut();
  size_t queued() const { return out_.size() - sent_; }

  Loop& loop_;
  TcpSocket socket_;
  const std::string peer_;
  const std::shared_ptr<GrpcShared> shared_;
  std::function<void()> gone_;
  std::unique_ptr<TlsSession> tls_;
  Http2Session session_;
  Deadline idle_deadline_;  // first the handshake's, then the next ping's; of kLinger its end
  Deadline write_deadline_;
  Deadline stream_deadline_;
  TimePoint stream_deadline_at_ = TimePoint::max();
  TimePoint last_read_{};
  State state_ = State::kOpen;
  std::string out_;  // for the socket
  size_t sent_ = 0;  // of out_
  std::string plain_in_;
  std::string plain_out_;
  bool ending_ = false;  // close once out_ is sent
  bool watching_read_ = false;
  bool watching_write_ = false;
  bool flush_scheduled_ = false;
  bool in_turn_ = false;  // Flush follows
};

}  // namespace warmpath::net
