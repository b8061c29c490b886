// Internal to net: one accepted connection: reads requests one at a time, hands each to the handler
// as an exchange, writes the answer. Loop-confined; kept alive by its listener's set and by the
// operations it has under way.
//
// While a request is handled the socket is still read, a bounded amount, so that a client that goes
// away is noticed and pipelined requests wait their turn. Answers are queued and sent once per turn
// of the loop.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/mutex.h"
#include "net/body_reception.h"
#include "net/deadline_wheel.h"
#include "net/http1_parser.h"
#include "net/http_server.h"
#include "net/loop_impl.h"
#include "net/tls_stream.h"

namespace warmpath::net {

// What all connections of a server share. Thread-safe.
struct ServerShared {
  HttpServerOptions options;
  HttpServer::Handler handler;
  std::atomic<size_t> connections{0};
  std::atomic<bool> draining{false};

  Mutex mutex;
  CondVar changed;
  size_t requests GUARDED_BY(mutex) = 0;  // begun and not answered

  void AddRequest() EXCLUDES(mutex);
  void RemoveRequest() EXCLUDES(mutex);
};

class ServerExchange;

class ServerConnection : public std::enable_shared_from_this<ServerConnection> {
 public:
  // `gone` is called once, when the socket is closed.
  ServerConnection(Loop& loop, TcpSocket socket, std::string peer,
                   std::shared_ptr<ServerShared> shared, std::function<void()> gone);
  ~ServerConnection();

  void Start();
  void Close();  // at once; the exchange at hand is told that the client is gone
  void CloseIfIdle();

  // For the exchange at hand.
  Loop& loop() { return loop_; }
  void Respond(int status, const Headers& headers, std::string_view body);
  void Begin(int status, const Headers& headers);
  size_t Write(std::string_view bytes);
  void End();
  void Abort();
  bool ended() const { return response_ended_; }
  bool has_content() const { return receiving_; }
  void PauseBody();
  void ResumeBody();

 private:
  enum class State {
    kIdle,  // no byte of a request yet
    kHead,
    kBody,
    kHandling,  // from the complete request until its answer is sent
    kLinger,    // answer sent, our side closed: reading until the client closes too
    kClosed,
  };

  void WatchRead();
  void WatchWrite();
  void WatchError();
  void OnReadable();
  std::string_view Read(error_code& error);
  void Process(std::string_view input);
  void OnHead(bool more_input);
  std::string_view ReadBodyInPlace(error_code& error);
  void Dispatch();
  void DispatchHead(std::string_view input);
  void HandOver(HttpRequest request);
  void Receive(std::string_view input);
  void BodyFailed(int status, std::string_view reason);
  void StopReceiving();
  void RefuseRequest(int status, std::string_view reason);
  void BeginRequest();
  void EndRequest();
  void StartHead(int status, const Headers& headers, std::optional<uint64_t> length);
  void BorrowOutput();
  void GiveBackOutput();
  void ScheduleFlush();
  void Flush();
  void FinishResponse();
  void Linger();
  void PeerGone();
  void Expired();
  void Shut(bool tell_exchange, bool reset);
  size_t queued() const { return out_.size() - sent_; }
  bool unsent() const { return queued() > 0 || (tls_ && tls_->has_output()); }

  Loop& loop_;
  TcpSocket socket_;
  const std::string peer_;
  const std::shared_ptr<ServerShared> shared_;
  const std::unique_ptr<TlsStream> tls_;  // null: plaintext
  std::function<void()> gone_;
  Deadline deadline_;
  Deadline body_deadline_;  // of streamed content
  Http1Parser parser_;
  State state_ = State::kIdle;

  HttpRequest request_;
  BodyReception body_;  // of request_, unless it is streamed
  std::shared_ptr<ServerExchange> exchange_;
  std::string pending_;  // bytes after the request at hand
  std::string out_;
  size_t sent_ = 0;  // of out_

  bool counted_ = false;  // in shared_->requests
  bool watching_read_ = false;
  bool watching_error_ = false;
  bool watching_write_ = false;
  bool flush_scheduled_ = false;
  bool over_high_water_ = false;
  bool response_begun_ = false;
  bool response_ended_ = false;
  bool keep_alive_ = false;  // after this response
  bool chunked_ = false;
  bool receiving_ = false;    // streamed content that has not ended; state_ is kHandling
  bool body_paused_ = false;  // nobody takes it
  bool feeding_ = false;      // Receive is running
  std::string held_;          // content read while paused
  bool handshaking_ = false;
  bool no_content_ = false;            // HEAD, 204, 304: what is written is dropped
  std::optional<uint64_t> body_left_;  // of a declared Content-Length
};

}  // namespace warmpath::net
