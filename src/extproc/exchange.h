// One HTTP request seen through Envoy's external processing: ProcessingRequests in,
// ProcessingResponses out. Knows no sockets and no clocks: what it needs of its stream is the Sink,
// so that tests and fuzzers drive it with bytes. Confined to the loop of its stream.
//
//   request:   headers -> [body buffered] -> decided -> headers reply -> [body echoed] -> done
//   response:  headers, chunks and trailers, each answered at once (response_phase.h)
//
// The directions are independent. In full duplex mode the body is held once, given back in pieces
// as the peer takes them, and freed. In BUFFERED mode it comes in one message and the decision goes
// out with the reply to it. STREAMED, BUFFERED_PARTIAL and NONE ask for the headers' reply before
// the body could be read: such requests go by load. What a peer may not send ends its stream, and
// nothing else.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "extproc/body_buffer.h"
#include "extproc/metrics.h"
#include "extproc/request_head.h"
#include "extproc/request_message.h"
#include "extproc/response_phase.h"
#include "extproc/server.h"
#include "extproc/sink.h"
#include "extproc/slow_body.h"
#include "routing/api_errors.h"

namespace warmpath::extproc {

// What all exchanges of a server share.
struct ExchangeShared {
  ExchangeShared(ExtProcOptions extproc_options, ExtProcDeps extproc_deps)
      : options(std::move(extproc_options)),
        deps(std::move(extproc_deps)),
        metrics(deps.metrics),
        buffered(options.max_buffered_bytes) {}
  const ExtProcOptions options;
  const ExtProcDeps deps;
  const ExtProcMetrics metrics;
  ByteBudget buffered;
};

class Exchange {
 public:
  // Both outlive it.
  Exchange(ExchangeShared& shared, Sink& sink);
  // Ends what is still open, as OnGone does.
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  void OnMessage(std::string_view message);
  // The peer sends nothing more: what is under way is finished, then the stream.
  void OnHalfClose();
  void OnDrain();
  void OnGone();
  void OnDecisionTimeout();

 private:
  enum class State {
    kStart,
    kBuffering,
    kDeciding,
    kEchoing,
    kStreaming,   // full duplex, answered at the headers: chunks go back as they come
    kUnbuffered,  // other modes, answered at the headers
    kDone,
  };
  // Of the request phase; freed with it.
  struct Pending {
    RequestHead head;
    BodyKind kind;
    std::shared_ptr<BodyBuffer> body;
    std::unique_ptr<SlowBody> slow_body;  // null for small ones and when all is there
    bool trailers = false;
    size_t echoed = 0;
    // False once nobody waits for the pool's result, so that a backlog of such work is passed over.
    // Nothing is published through it: relaxed is enough. Null when the pool was not asked.
    std::shared_ptr<std::atomic<bool>> tokens_wanted;
  };

  bool duplex() const { return request_mode_ == pb::FULL_DUPLEX_STREAMED; }
  bool ReadConfiguration(const RequestMessage& message);
  void OnRequestHeaders(const RequestMessage& message);
  void OnRequestBody(const RequestMessage& message);
  void OnRequestTrailers();
  void ReadSubsetHint(const RequestMessage& message);
  void OnResponse(const RequestMessage& message);

  void Buffer(const RequestMessage& part);
  // Why the body is not looked into.
  enum class Look { kNoBody, kNotWanted, kTooLate };
  void DecideByLoad(Look look);
  void Decide();
  void PrepareOnPool();
  void PrepareByLoad(const char* note);
  void OnPrepared(Result<routing::Prepared> prepared);
  void StopWaitingForTokens();
  // Nothing is answered yet when it returns false: the request was refused.
  bool Place(routing::Prepared& prepared);
  std::string Destination() const;
  // The changes to the request's headers, and the dynamic metadata; each valid until the thread's
  // next call.
  std::string_view Changes(std::string_view destination,
                           std::optional<size_t> content_length) const;
  std::string_view Metadata(std::string_view destination) const;
  void SendHeadersReply(std::optional<size_t> content_length);
  void SendBufferedReply(bool rewritten);
  void SendEmptyReply(const RequestMessage& message);
  void SendTrailersReply() { sink_.Send(EmptyReply(Phase::kRequestTrailers)); }
  void Pump();
  void RequestDone();
  bool BypassesAnswer() const;
  void ReturnUnsent();

  void Refuse(const Error& error);
  void Refuse(const routing::ApiError& error, std::string_view dropped_reason = {});
  void Violation(net::GrpcStatus status, const char* what);
  void End(net::GrpcStatus status, std::string_view message = {});
  // Settles what the answer's end would have settled.
  void Close();
  void EndIfHalfClosed();

  ExchangeShared& shared_;
  Sink& sink_;
  State state_ = State::kStart;
  pb::BodySendMode request_mode_ = pb::FULL_DUPLEX_STREAMED;
  pb::BodySendMode response_mode_ = pb::FULL_DUPLEX_STREAMED;
  bool first_ = true;
  bool observing_ = false;
  bool half_closed_ = false;
  bool pumping_ = false;
  bool skip_answer_ = false;
  bool ended_ = false;
  size_t unsent_ = 0;  // bytes of the request on their way back, counted in shared_.buffered
  std::unique_ptr<Pending> pending_;
  std::optional<routing::Outcome> outcome_;
  ResponsePhase response_;
};

}  // namespace warmpath::extproc
