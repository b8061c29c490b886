// Internal to net: the server side of one HTTP/2 connection that carries gRPC, without a socket:
// bytes in, bytes out. nghttp2 keeps the protocol's state; this class adds gRPC's messages and
// status, flow control by consumption, and the limits nghttp2 has not.
//
// Loop-confined. Handlers are called from Receive, Produce, Tick and Close only.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "net/grpc_server.h"
#include "net/token_bucket.h"

struct nghttp2_session;

namespace warmpath::net {

class Http2Stream;

class Http2Session {
 public:
  // What the session needs of its owner.
  class Host {
   public:
    virtual Loop& loop() = 0;
    virtual std::string_view peer() const = 0;
    virtual TimePoint Now() const = 0;
    // There is something to Produce, or next_deadline() changed. Any number of times; the owner
    // calls Produce soon, not from here.
    virtual void OnWork() = 0;
    virtual void OnStreamBegin() {}
    virtual void OnStreamEnd() {}

   protected:
    ~Host() = default;
  };

  // All references outlive the session. `held_bytes` counts towards max_held_bytes and is shared by
  // all sessions of a server.
  Http2Session(Host& host, const GrpcServerOptions& options, const GrpcServer::Service& service,
               std::atomic<size_t>& held_bytes);
  ~Http2Session();
  Http2Session(const Http2Session&) = delete;
  Http2Session& operator=(const Http2Session&) = delete;

  // Bytes from the peer. An error ends the connection: send what Produce gives, then close.
  Status Receive(std::string_view bytes);
  // Appends frames to `out` until it holds about `limit` bytes (one frame more at most) or there is
  // nothing to send.
  void Produce(std::string& out, size_t limit);
  // Deadlines of streams: call at or after next_deadline().
  void Tick();
  std::optional<TimePoint> next_deadline() const;

  void Ping();
  // GOAWAY for everything not yet begun; finished() follows once the last stream ended.
  void Drain();
  // Ends every stream (OnGone where it applies) and queues a last GOAWAY.
  void Close();

  bool settings_received() const { return settings_received_; }
  bool finished() const;  // nothing more to read and nothing to send: close
  size_t streams() const { return streams_; }
  size_t unanswered_pings() const { return unanswered_pings_; }
  // Control frames queued for the peer: the owner stops reading when it does not take them.
  size_t queued_frames() const;

 private:
  friend class Http2Stream;
  struct Callbacks;  // nghttp2's, in http2_session.cc

  // From nghttp2's callbacks; 0 or an nghttp2 error code.
  int OnBeginHeaders(int32_t id);
  int OnHeader(Http2Stream& stream, std::string_view name, std::string_view value, bool trailer);
  int OnControlFrame(double cost);
  int OnResetReceived(Http2Stream* stream);
  int OnResetSent(uint32_t code);
  void OnPingAck(const uint8_t* opaque);
  void OnStreamClose(Http2Stream& stream);

  int FailConnection(uint32_t code, std::string reason);
  void SayLastWords(uint32_t code);
  void FinishDrain();
  void DeliverDrains();
  void Work();

  Host& host_;
  const GrpcServerOptions& options_;
  const GrpcServer::Service& service_;
  nghttp2_session* session_ = nullptr;
  Http2Stream* first_ = nullptr;  // all streams, linked
  size_t streams_ = 0;
  std::atomic<size_t>& held_bytes_;
  TimePoint now_{};  // of the Receive under way
  TokenBucket resets_;
  TokenBucket control_frames_;
  // Streams with a timeout, and those that have been answered; null: the drain's grace.
  std::multimap<TimePoint, Http2Stream*> deadlines_;
  std::vector<int32_t> drained_;  // streams whose OnDrain is due
  std::string* out_ = nullptr;    // during Produce
  size_t out_limit_ = 0;
  std::string last_words_;  // GOAWAY written by hand, once nghttp2 cannot
  uint32_t error_code_ = 0;
  std::string error_;
  size_t unanswered_pings_ = 0;
  int continuations_ = 0;  // of the header block under way
  bool busy_ = false;      // Receive, Produce, Tick or Close is under way: no OnWork
  bool work_ = false;      // something was queued since Produce looked
  bool failed_ = false;
  bool closed_ = false;
  bool settings_received_ = false;
  enum class DrainState { kNo, kNoticed, kFinal } drain_ = DrainState::kNo;
};

}  // namespace warmpath::net
