#include "gateway/proxied_request.h"

#include <utility>

#include "base/log.h"
#include "gateway/forwarding.h"

namespace warmpath::gateway {
namespace {

bool IsRetryable(int status) {
  return status == 502 || status == 503 || status == 504;
}

}  // namespace

GatewayShared::GatewayShared(GatewayOptions gateway_options, GatewayDeps gateway_deps)
    : options(std::move(gateway_options)), deps(gateway_deps), metrics(gateway_deps.metrics) {}

ProxiedRequest::ProxiedRequest(std::shared_ptr<GatewayShared> shared, net::HttpClient& client,
                               std::shared_ptr<net::HttpExchange> exchange, prompt::Api api,
                               std::string request_id)
    : shared_(std::move(shared)),
      client_(client),
      exchange_(std::move(exchange)),
      api_(api),
      request_id_(std::move(request_id)),
      body_(std::make_shared<std::string>(std::move(exchange_->request().body))) {
  shared_->metrics.in_flight.Add(1);
}

ProxiedRequest::~ProxiedRequest() {
  shared_->metrics.in_flight.Add(-1);
}

void ProxiedRequest::Start() {
  exchange_->OnClose([self = shared_from_this()] { self->OnClientGone(); });
  routing::RequestAttributes attributes = Attributes();
  auto prepared = shared_->deps.director.PrepareIfQuick(request_id_, api_, *body_, attributes);
  if (prepared) {
    OnPrepared(std::move(*prepared));
  } else {
    PrepareOnPool(std::move(attributes));
  }
}

// ---- preparing

routing::RequestAttributes ProxiedRequest::Attributes() const {
  return {RoutingHeadersOf(exchange_->request().headers), std::nullopt};
}

void ProxiedRequest::PrepareOnPool(routing::RequestAttributes attributes) {
  tokens_wanted_ = std::make_shared<std::atomic<bool>>(true);
  const auto work = [weak = weak_from_this(), loop = &exchange_->loop(),
                     body = std::shared_ptr<const std::string>(body_),
                     director = &shared_->deps.director, id = request_id_, api = api_,
                     wanted = tokens_wanted_, attributes = std::move(attributes)] {
    if (!wanted->load(std::memory_order_relaxed)) return;
    auto result =
        std::make_shared<Result<routing::Prepared>>(director->Prepare(id, api, *body, attributes));
    loop->Post([weak, result] {
      const auto self = weak.lock();
      if (!self) return;
      self->on_pool_ = false;
      self->OnPrepared(std::move(*result));
    });
  };
  on_pool_ = true;
  if (!shared_->deps.pool.TryRun(work)) {
    shared_->metrics.decision_pool_full.Add();
    PrepareByLoad("tokenization queue full");
    return;
  }
  decision_timer_ =
      exchange_->loop().After(shared_->options.decision_timeout, [self = shared_from_this()] {
        self->shared_->metrics.decision_timeouts.Add();
        self->PrepareByLoad("tokenization took too long");
      });
}

void ProxiedRequest::PrepareByLoad(const char* note) {
  if (done_ || prepared_) return;
  WP_LOG(kWarn, "gateway", "request routed by load", {"x-request-id", request_id_},
         {"reason", note});
  OnPrepared(shared_->deps.director.PrepareByLoad(request_id_, api_, *body_, note, Attributes()));
}

void ProxiedRequest::OnPrepared(Result<routing::Prepared> prepared) {
  if (done_ || prepared_) return;  // too late
  StopWaitingForTokens();
  if (!prepared) {
    Refuse(routing::FromRouting(prepared.error()));
    return;
  }
  prepared_ = std::move(*prepared);
  Route();
}

void ProxiedRequest::StopWaitingForTokens() {
  decision_timer_.Cancel();
  if (tokens_wanted_) tokens_wanted_->store(false, std::memory_order_relaxed);
}

// ---- sending

void ProxiedRequest::Route() {
  auto outcome = shared_->deps.director.Decide(*prepared_, tried_);
  if (!outcome) {
    Refuse(routing::FromRouting(outcome.error()));
    return;
  }
  Send(std::move(*outcome));
}

void ProxiedRequest::Send(routing::Outcome outcome) {
  outcome_.emplace(std::move(outcome));
  const fleet::Endpoint& endpoint = outcome_->endpoint();
  tried_.push_back(endpoint.id);
  const net::HttpRequest& original = exchange_->request();
  net::HttpRequest request;
  request.method = original.method;
  request.target = original.target;
  request.headers = UpstreamHeaders(original.headers, request_id_, shared_->options.engine_api_key);
  if (outcome_->pin_rank()) {
    request.headers.Add("X-data-parallel-rank", std::to_string(outcome_->rank()));
  }
  const scheduling::PickEffects& effects = outcome_->effects();
  for (const std::string& name : effects.remove_request_headers) request.headers.Remove(name);
  for (const auto& [name, value] : effects.request_headers) request.headers.Set(name, value);
  net::CallOptions options = shared_->options.upstream;
  options.shared_body = BodyFor(outcome_->target_model());
  net::Url url = endpoint.spec.url;
  if (!effects.destination.empty()) {
    if (auto address = net::ParseHostPort(effects.destination)) url.address = std::move(*address);
  }
  // The call is ours and calls nothing once cancelled; the exchange's OnClose holds us.
  net::CallHandlers handlers;
  handlers.on_head = [this](net::HttpResponseHead head) { OnHead(std::move(head)); };
  handlers.on_data = [this](std::string_view bytes) { OnData(bytes); };
  handlers.on_end = [this] { OnEnd(); };
  handlers.on_error = [this](net::CallFailure failure, const Error& error) {
    OnError(failure, error);
  };
  call_ = client_.Send(url, std::move(request), options, std::move(handlers));
}

std::shared_ptr<const std::string> ProxiedRequest::BodyFor(const std::string& target_model) {
  if (target_model == prepared_->view.model) return body_;
  if (!rewritten_body_) {
    rewritten_body_ = std::make_shared<const std::string>(
        prompt::ReplaceModel(*body_, prepared_->view, target_model));
  }
  return rewritten_body_;
}

bool ProxiedRequest::TryElsewhere(const Counter& counter, const std::string& reason,
                                  bool declined) {
  if (relaying_ || tried_.size() > 1) return false;
  auto other = shared_->deps.director.Decide(*prepared_, tried_);
  if (!other) return false;
  WP_LOG(kWarn, "gateway", "retrying elsewhere", {"x-request-id", request_id_},
         {"failed", outcome_->endpoint().name()}, {"next", other->endpoint().name()},
         {"reason", reason});
  counter.Add();
  if (declined) {
    outcome_->Declined();
  } else {
    outcome_->Failed(reason);
  }
  Send(std::move(*other));
  return true;
}

// ---- relaying

// An answer may last long, and nothing is sent again once it began.
void ProxiedRequest::ForgetRequest() {
  prepared_.reset();
  rewritten_body_ = nullptr;
  exchange_->request().headers = {};
  if (body_ && body_.use_count() == 1 && !on_pool_) {
    net::RecycleBody(exchange_->loop(), std::move(*body_));
  }
  body_ = nullptr;
}

void ProxiedRequest::OnHead(net::HttpResponseHead head) {
  if (done_) return;
  if (IsRetryable(head.status) &&
      TryElsewhere(shared_->metrics.retries_status, "answered " + std::to_string(head.status),
                   /*declined=*/true)) {
    return;
  }
  relaying_ = true;
  status_ = head.status;
  const std::string_view type = head.headers.Get("Content-Type").value_or("");
  const bool encoded = head.headers.Get("Content-Encoding").has_value();
  outcome_->ResponseHead(status_, routing::UsageScanner::KindOf(type, /*encoded=*/false) ==
                                      routing::UsageScanner::Kind::kEvents);
  usage_.emplace(status_ < 300 ? routing::UsageScanner::KindOf(type, encoded)
                               : routing::UsageScanner::Kind::kNone);
  net::Headers headers = DownstreamHeaders(std::move(head.headers), request_id_);
  if (status_ == 503 && !headers.Get("Retry-After")) headers.Add("Retry-After", "1");
  for (const auto& [name, value] : outcome_->effects().response_headers) headers.Set(name, value);
  if (shared_->options.expose_decision) {
    headers.Set("x-warmpath-endpoint", outcome_->endpoint().name());
    headers.Set("x-warmpath-cached-tokens", std::to_string(outcome_->predicted_cached_tokens()));
  }
  exchange_->OnDrain([this] {
    if (std::exchange(paused_, false) && call_) call_->Resume();
  });
  ForgetRequest();
  exchange_->Begin(status_, std::move(headers));
}

void ProxiedRequest::OnData(std::string_view bytes) {
  if (done_) return;
  outcome_->BodyChunk(bytes.size());
  usage_->Feed(bytes);
  if (exchange_->Write(bytes) > exchange_->high_water() && !paused_) {
    paused_ = true;
    call_->Pause();
  }
}

void ProxiedRequest::OnEnd() {
  if (done_) return;
  if (const auto usage = usage_->Finish())
    outcome_->Usage(usage->prompt_tokens, usage->cached_tokens, usage->output_tokens);
  outcome_->Finish(status_);
  shared_->metrics.CountAnswer(status_);
  const auto self = shared_from_this();
  Done();
  exchange_->End();
}

void ProxiedRequest::OnError(net::CallFailure failure, const Error& error) {
  if (done_) return;
  const auto self = shared_from_this();
  if (relaying_) {
    shared_->metrics.broken_streams.Add();
    WP_LOG(kWarn, "gateway", "answer broken off", {"x-request-id", request_id_},
           {"endpoint", outcome_->endpoint().name()}, {"reason", error.message});
    outcome_->Failed(error.message, status_);
    Done();
    exchange_->Abort();
    return;
  }
  const bool connect = failure == net::CallFailure::kConnect;
  if ((connect || failure == net::CallFailure::kBeforeHead) &&
      TryElsewhere(connect ? shared_->metrics.retries_connect : shared_->metrics.retries_reset,
                   error.message, /*declined=*/false)) {
    return;
  }
  WP_LOG(kWarn, "gateway", "endpoint failed", {"x-request-id", request_id_},
         {"endpoint", outcome_->endpoint().name()}, {"reason", error.message});
  // What went wrong inside the deployment is for its logs; the client learns what to do.
  routing::ApiError answer{502, "the model server failed before answering", "upstream_failed", 0};
  if (failure == net::CallFailure::kTimeout) {
    answer = {504, "the model server did not answer in time", "upstream_timeout", 0};
  } else if (connect) {
    answer = {503, "no model server could be reached", "upstream_unreachable", 1};
  }
  outcome_->Failed(error.message, answer.status);
  Refuse(answer);
}

void ProxiedRequest::OnClientGone() {
  if (done_) return;
  shared_->metrics.client_aborts.Add();
  if (outcome_) outcome_->Abort();
  Done();
}

void ProxiedRequest::Refuse(const routing::ApiError& error) {
  shared_->metrics.CountAnswer(error.status);
  const auto self = shared_from_this();
  net::Headers headers = routing::ErrorHeaders(error);
  headers.Set("x-request-id", request_id_);
  Done();
  exchange_->Respond(error.status, std::move(headers), routing::ErrorBody(error));
}

void ProxiedRequest::Done() {
  done_ = true;
  StopWaitingForTokens();
  call_.reset();  // cancels what is under way
  outcome_.reset();
}

}  // namespace warmpath::gateway
