// Internal to net: one call of the client: connect, send, read the answer, with deadlines,
// backpressure and one silent replacement of a stale pooled connection. Loop-confined. Kept alive
// by the operations it has under way and by its handle.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/client_pool.h"
#include "net/deadline_wheel.h"
#include "net/http1_parser.h"
#include "net/http_client.h"
#include "net/loop_impl.h"

namespace warmpath::net {

class ClientCall;

// What the calls of one client share. Loop-confined.
struct ClientShared {
  ClientShared(Loop& owner, HttpClientOptions client_options);

  Loop& loop;
  const HttpClientOptions options;
  ClientPool pool;
  std::vector<std::shared_ptr<ClientCall>> calls;  // in flight; each knows its place

  // The context for https.
  Result<std::shared_ptr<TlsContext>> Tls() const;
};

// A streamed request body.
struct CallUpload {
  bool chunked = false;
  uint64_t left = 0;  // of a declared length
  std::string bytes;  // as they go on the wire, from the first that is kept
  bool ended = false;
  bool over_high_water = false;
  bool dropped = false;  // what was sent is not kept: it cannot be sent again
};

class ClientCall : public std::enable_shared_from_this<ClientCall> {
 public:
  ClientCall(std::shared_ptr<ClientShared> shared, const Url& url, HttpRequest request,
             CallOptions options, CallHandlers handlers);
  ~ClientCall();

  void Start();  // handlers are called from later turns of the loop
  void Cancel();
  void Pause();
  void Resume();
  size_t Write(std::string_view bytes);
  void End();

 private:
  enum class Phase { kConnecting, kHead, kBody, kDone };

  void Begin();
  void ConnectNew();
  void Resolve();
  void OnResolved(const error_code& error, Resolver::Endpoints found);
  void TryConnect();
  void OnSocketConnected();
  void BeginTls();
  void OnConnected(bool reused);
  void SendMore();
  size_t PushUpload();
  void OnSent();
  bool SentAll() const;
  std::string_view BodyLeft() const;
  void WatchRead();
  void OnReadable();
  std::string_view Read(error_code& error);
  void Parse(std::string_view input);
  void Broken(const error_code& error);
  void Expired();
  void Complete();
  void FailCall(CallFailure failure, Code code, const std::string& what);
  void Detach();
  void DropRequest();

  const std::shared_ptr<ClientShared> shared_;
  size_t place_ = 0;  // in shared_->calls
  const HostPort address_;
  const bool tls_;
  const std::string host_;      // as in Host
  const std::string pool_key_;  // plaintext and TLS apart
  CallOptions options_;         // but for the body
  CallHandlers handlers_;
  std::string invalid_;  // why the request cannot be sent
  std::string head_;
  std::shared_ptr<const std::string> body_;
  std::optional<CallUpload> upload_;  // a streamed body; body_ is empty then
  const bool answers_head_;

  Phase phase_ = Phase::kConnecting;
  Deadline deadline_;
  Http1Parser parser_;
  std::unique_ptr<ClientSocket> socket_;
  Resolver::Endpoints candidates_;
  size_t next_candidate_ = 0;
  std::string connect_error_;

  size_t head_sent_ = 0;
  size_t body_sent_ = 0;   // of *body_, or of upload_->bytes
  bool sent_all_ = false;  // and nothing of it is kept
  bool send_failed_ = false;
  bool reused_ = false;
  bool replaced_ = false;  // the stale connection
  bool got_bytes_ = false;
  bool paused_ = false;
  bool watching_read_ = false;
  bool watching_write_ = false;
  bool parsing_ = false;
  std::string leftover_;  // read but not parsed, because the call was paused
};

}  // namespace warmpath::net
