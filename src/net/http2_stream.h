// Internal to net: one gRPC call on an Http2Session. Owned by the session from its HEADERS to its
// close; loop-confined.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "net/grpc_framing.h"
#include "net/grpc_server.h"
#include "net/http2_session.h"

namespace warmpath::net {

class Http2Stream final : public GrpcStream {
 public:
  Http2Stream(Http2Session& session, int32_t id);
  ~Http2Stream() override;

  Loop& loop() override;
  std::string_view peer() const override;
  void Send(std::string_view message) override { SendPieces({&message, 1}); }
  void SendPieces(std::span<const std::string_view> pieces) override;
  size_t queued_bytes() const override { return out_.size() - sent_; }
  void SetReading(bool reading) override;
  void MarkComplete() override { complete_ = true; }
  void Finish(GrpcStatus status, std::string_view message) override;

  // The session's side.
  int32_t id() const { return id_; }
  void AddHeader(std::string_view name, std::string_view value);
  void OnHeadersEnd();
  void OnData(std::string_view data);
  void OnHalfClose();
  void OnEndSent() { end_sent_ = true; }
  void OnExpired();
  void DeliverDrain();
  // The stream is over: tells the handler if that came too early, and drops it.
  void End();
  bool remote_closed() const { return remote_closed_; }
  // A reset by the peer now is the normal end.
  bool settled() const { return complete_ || end_sent_; }

  // For nghttp2's data source: how much of the queue the next frame takes, and the bytes.
  size_t Peek(size_t limit, uint32_t& data_flags);
  void Take(std::string& out, size_t size);

 private:
  friend class Http2Session;

  // An answer of the server's own: the handler hears OnGone.
  void Refuse(GrpcStatus status, std::string_view message, const char* http_status = "200");
  void Answer(GrpcStatus status, std::string_view message, const char* http_status);
  void Respond();
  void SubmitTrailers();
  void SetDeadline(Duration from_now);
  void ClearDeadline();
  void TellGone();
  void FreeQueue();
  // Brings what this stream adds to the server's held bytes up to date; false: they are too many.
  bool CountHeld();

  Http2Session& session_;
  const int32_t id_;
  Http2Stream* next_ = nullptr;
  Http2Stream* previous_ = nullptr;
  std::unique_ptr<GrpcHandler> handler_;
  std::string path_;  // until the handler is made
  size_t header_bytes_ = 0;
  std::optional<Duration> timeout_;
  GrpcMessageReader reader_;
  size_t counted_ = 0;  // of the server's held bytes
  uint32_t held_ = 0;   // received bytes whose window has not been given back
  std::string out_;     // length-prefixed messages; without memory while there are none
  size_t sent_ = 0;     // of out_
  std::string status_message_;
  GrpcStatus status_ = GrpcStatus::kOk;
  std::multimap<TimePoint, Http2Stream*>::iterator deadline_;
  bool deadline_set_ = false;
  // Of the headers that count here the first of a name counts.
  bool post_ = false;
  bool content_type_seen_ = false;
  bool is_grpc_ = false;
  bool encoding_seen_ = false;
  bool compressed_ = false;
  bool timeout_seen_ = false;
  bool reading_ = true;
  bool remote_closed_ = false;
  bool complete_ = false;
  bool finished_ = false;   // an answer is decided: nothing more reaches the handler
  bool responded_ = false;  // response HEADERS are submitted
  bool deferred_ = false;   // nghttp2 waits for nghttp2_session_resume_data
  bool trailers_submitted_ = false;
  bool end_sent_ = false;
  bool above_low_water_ = false;
};

}  // namespace warmpath::net
