#include "sidecar/relay.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "base/log.h"
#include "net/content_length.h"
#include "sidecar/control_headers.h"

namespace warmpath::sidecar {
namespace {

struct Failure {
  int status;
  const char* code;
  std::string message;
};

Failure Explain(net::CallFailure failure, const Error& error, const net::Url& engine) {
  const std::string at = engine.ToString();
  switch (failure) {
    case net::CallFailure::kConnect:
      return {
          503, "engine_unreachable",
          fmt::format("the sidecar cannot reach the engine at {}: is its container running, has "
                      "it loaded its model, and is its --port the sidecar's "
                      "--model-server-port (--vllm-port)?",
                      at)};
    case net::CallFailure::kTimeout:
      return {504, "engine_timeout", fmt::format("the engine at {} did not answer in time", at)};
    case net::CallFailure::kProtocol:
      if (error.code == Code::kInvalidArgument) {
        return {400, "bad_request", "the request's method or target cannot be forwarded"};
      }
      return {502, "engine_failed",
              fmt::format("what the engine at {} answers is not HTTP/1.1: does it speak TLS "
                          "(--enable-tls=decoder), or is another program on this port?",
                          at)};
    case net::CallFailure::kBeforeHead:
    case net::CallFailure::kAfterHead:
      break;
  }
  return {502, "engine_failed",
          fmt::format("the engine at {} closed the connection before it answered: did it crash or "
                      "restart? See its container's log",
                      at)};
}

}  // namespace

Relay::Relay(std::shared_ptr<net::HttpExchange> exchange, net::Url engine,
             std::shared_ptr<std::atomic<size_t>> in_flight)
    : exchange_(std::move(exchange)), engine_(std::move(engine)), in_flight_(std::move(in_flight)) {
  ++*in_flight_;
}

Relay::~Relay() {
  --*in_flight_;
}

void Relay::Start(net::HttpClient& client, const net::CallOptions& options) {
  const auto self = shared_from_this();
  exchange_->OnClose([self] { self->OnClientGone(); });
  const net::HttpRequest& original = exchange_->request();
  net::HttpRequest request;
  request.method = original.method;
  request.target = original.target;
  request.headers = EndToEnd(original.headers);
  request.headers.Remove(kDataParallelHeader);

  net::CallOptions call_options = options;
  net::CallHandlers handlers;
  handlers.on_head = [self](net::HttpResponseHead head) { self->OnHead(std::move(head)); };
  handlers.on_data = [self](std::string_view bytes) { self->OnData(bytes); };
  handlers.on_end = [self] { self->OnEnd(); };
  handlers.on_error = [self](net::CallFailure failure, const Error& error) {
    self->OnError(failure, error);
  };
  if (exchange_->has_content()) {
    call_options.streamed_body = net::StreamedBody{net::ContentLength(original.headers)};
    handlers.on_drain = [self] {
      if (std::exchange(self->content_paused_, false)) self->exchange_->ResumeBody();
    };
  }
  call_ = client.Send(engine_, std::move(request), call_options, std::move(handlers));
  if (exchange_->has_content()) {
    exchange_->ReadBody([self](std::string_view bytes) { self->SendContent(bytes); },
                        [self] {
                          if (self->call_) self->call_->End();
                        });
  }
}

void Relay::SendContent(std::string_view bytes) {
  if (done_) return;
  if (call_->Write(bytes) > net::kUploadHighWater && !content_paused_) {
    content_paused_ = true;
    exchange_->PauseBody();
  }
}

void Relay::OnHead(net::HttpResponseHead head) {
  if (done_) return;
  answering_ = true;
  exchange_->OnDrain([self = shared_from_this()] {
    if (std::exchange(self->answer_paused_, false) && self->call_) self->call_->Resume();
  });
  WP_LOG(kTrace, "sidecar", "engine answers", {"method", exchange_->request().method},
         {"path", std::string(exchange_->request().path())}, {"status", head.status});
  exchange_->Begin(head.status, EndToEnd(std::move(head.headers)));
}

void Relay::OnData(std::string_view bytes) {
  if (done_) return;
  if (exchange_->Write(bytes) > exchange_->high_water() && !answer_paused_) {
    answer_paused_ = true;
    call_->Pause();
  }
}

void Relay::OnEnd() {
  if (done_) return;
  const auto self = shared_from_this();
  Done();
  exchange_->End();
}

void Relay::OnError(net::CallFailure failure, const Error& error) {
  if (done_) return;
  const auto self = shared_from_this();
  WP_LOG(kWarn, "sidecar", answering_ ? "answer broken off" : "engine failed",
         {"engine", engine_.ToString()}, {"reason", error.message});
  Done();
  if (answering_) {
    exchange_->Abort();
    return;
  }
  const Failure answer = Explain(failure, error, engine_);
  net::Headers headers{{"Content-Type", "application/json"}};
  if (answer.status == 503) headers.Add("Retry-After", "1");
  exchange_->Respond(answer.status, std::move(headers),
                     ErrorBody(answer.status, answer.message, answer.code));
}

void Relay::OnClientGone() {
  if (done_) return;
  WP_LOG(kDebug, "sidecar", "client went away", {"path", std::string(exchange_->request().path())});
  Done();
}

void Relay::Done() {
  done_ = true;
  call_.reset();  // cancels what is under way
}

}  // namespace warmpath::sidecar
