#include "extproc/exchange.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/log.h"
#include "base/units.h"

namespace warmpath::extproc {
namespace {

using net::GrpcStatus;
using Kind = RequestMessage::Kind;

constexpr std::string_view kSaturated = "rejected-saturated";
constexpr char kMemoryCode[] = "too_many_request_bodies";
constexpr std::string_view kNoEndpoints = "rejected-no-endpoints";

std::string_view DroppedReason(Code code) {
  if (code == Code::kOutOfBounds) return kSaturated;
  if (code == Code::kUnavailable) return kNoEndpoints;
  return {};
}

}  // namespace

Exchange::Exchange(ExchangeShared& shared, Sink& sink)
    : shared_(shared), sink_(sink), response_(sink, shared.options.conformance_headers) {}

Exchange::~Exchange() {
  OnGone();
}

// ---- what comes

void Exchange::OnMessage(std::string_view bytes) {
  if (ended_ || observing_) return;
  RequestMessage message;
  if (!message.Read(bytes)) {
    return Violation(GrpcStatus::kInvalidArgument, "not a ProcessingRequest");
  }
  if (std::exchange(first_, false) && !ReadConfiguration(message)) return;
  switch (message.kind()) {
    case Kind::kRequestHeaders:
      return OnRequestHeaders(message);
    case Kind::kRequestBody:
      return OnRequestBody(message);
    case Kind::kRequestTrailers:
      return OnRequestTrailers();
    case Kind::kResponseHeaders:
    case Kind::kResponseBody:
    case Kind::kResponseTrailers:
      return OnResponse(message);
    case Kind::kNone:
      return Violation(GrpcStatus::kInvalidArgument, "a message without content");
  }
}

// False: the stream goes no further.
bool Exchange::ReadConfiguration(const RequestMessage& message) {
  if (message.observability_mode()) {
    observing_ = true;
    return false;
  }
  // Proxies that do not tell are older than the field and speak full duplex, the one mode the
  // endpoint picker protocol defines.
  if (!message.modes()) return true;
  const auto [request, response] = *message.modes();
  for (const int mode : {request, response}) {
    if (mode == pb::GRPC || !pb::BodySendMode_IsValid(mode)) {
      Violation(GrpcStatus::kUnimplemented, "this body mode is not supported");
      return false;
    }
  }
  request_mode_ = static_cast<pb::BodySendMode>(request);
  response_mode_ = static_cast<pb::BodySendMode>(response);
  return true;
}

void Exchange::OnRequestHeaders(const RequestMessage& message) {
  if (state_ != State::kStart) {
    return Violation(GrpcStatus::kInvalidArgument, "request headers twice");
  }
  auto head = ReadRequestHead(message, shared_.options.conformance_headers);
  if (!head) return Violation(GrpcStatus::kResourceExhausted, "too many request headers");
  pending_ = std::make_unique<Pending>();
  pending_->head = std::move(*head);
  ReadSubsetHint(message);
  state_ = State::kBuffering;
  if (message.end_of_stream()) return DecideByLoad(Look::kNoBody);
  if (!duplex() && request_mode_ != pb::BUFFERED) return DecideByLoad(Look::kTooLate);

  const auto kind = KindOfBody(pending_->head.path, shared_.options.parsers);
  if (!kind) {
    return Refuse(
        routing::ApiError{400, "No parser is configured for this path.", "invalid_request"});
  }
  pending_->kind = *kind;
  if (kind->passthrough) {
    skip_answer_ = true;
    return DecideByLoad(Look::kNotWanted);
  }
  pending_->body = std::make_shared<BodyBuffer>(shared_.buffered);
  if (const auto length = pending_->head.content_length) {
    if (*length > shared_.options.max_request_body) {
      return Refuse(routing::ApiError{413, "The request body is too large.", "request_too_large"});
    }
    pending_->body->Expect(*length);
  }
  if (!duplex()) SendEmptyReply(message);
}

void Exchange::OnRequestBody(const RequestMessage& message) {
  switch (state_) {
    case State::kStart:
      return Violation(GrpcStatus::kInvalidArgument, "request body before its headers");
    case State::kBuffering:
      ReadSubsetHint(message);
      return Buffer(message);
    case State::kStreaming: {
      std::string_view rest = message.body();
      do {
        const std::string_view piece = rest.substr(0, kMaxChunk);
        rest.remove_prefix(piece.size());
        SendStreamed(sink_, Direction::kRequest, piece, message.end_of_stream() && rest.empty());
      } while (!rest.empty());
      if (sink_.queued_bytes() > kSendAhead) sink_.SetReading(false);
      if (message.end_of_stream()) RequestDone();
      return;
    }
    case State::kUnbuffered:
      SendEmptyReply(message);
      if (message.end_of_stream()) RequestDone();
      return;
    case State::kDeciding:
    case State::kEchoing:
    case State::kDone:
      if (duplex()) return;  // some proxies send end_of_stream twice
      if (state_ != State::kDone) {
        return Violation(GrpcStatus::kInvalidArgument, "a second body in BUFFERED mode");
      }
      return SendEmptyReply(message);
  }
}

void Exchange::OnRequestTrailers() {
  switch (state_) {
    case State::kStart:
      return Violation(GrpcStatus::kInvalidArgument, "request trailers before the headers");
    case State::kBuffering:
      pending_->trailers = true;
      return Decide();
    case State::kStreaming:
    case State::kUnbuffered:
      SendTrailersReply();
      return RequestDone();
    case State::kDeciding:
      if (!duplex()) pending_->trailers = true;
      return;
    case State::kEchoing:
      return;
    case State::kDone:
      if (!duplex()) SendTrailersReply();
      return;
  }
}

void Exchange::OnResponse(const RequestMessage& message) {
  const char* wrong = nullptr;
  if (state_ == State::kStart) {
    wrong = "a response before its request";
  } else if (message.kind() == Kind::kResponseHeaders) {
    wrong = response_.OnHeaders(message, response_mode_, outcome_);
  } else if (message.kind() == Kind::kResponseBody) {
    wrong = response_.OnBody(message, response_mode_, outcome_);
    if (sink_.queued_bytes() > kSendAhead) sink_.SetReading(false);
  } else {
    wrong = response_.OnTrailers(outcome_);
  }
  if (wrong != nullptr) return Violation(GrpcStatus::kInvalidArgument, wrong);
  // An answer that came whole before its request did: the rest of the request has nowhere to go.
  if (response_.complete()) EndIfHalfClosed();
}

void Exchange::ReadSubsetHint(const RequestMessage& message) {
  RequestHead& head = pending_->head;
  if (!shared_.options.use_subset_hint || head.test_selection) return;
  if (auto subset = ReadSubset(message)) {
    head.attributes.subset = std::move(*subset);
  }
}

void Exchange::OnHalfClose() {
  if (ended_) return;
  half_closed_ = true;
  EndIfHalfClosed();
}

void Exchange::OnDrain() {
  if (ended_) return;
  ReturnUnsent();
  sink_.SetReading(true);
  if (state_ == State::kEchoing) Pump();
}

void Exchange::OnGone() {
  if (ended_) return;
  ended_ = true;
  Close();
}

// ---- deciding

void Exchange::Buffer(const RequestMessage& part) {
  BodyBuffer& body = *pending_->body;
  if (part.body().size() > shared_.options.max_request_body - body.size()) {
    return Refuse(routing::ApiError{413, "The request body is too large.", "request_too_large"});
  }
  bool taken = body.Append(part.body());
  if (!taken && pending_->slow_body != nullptr) {
    pending_->slow_body = nullptr;  // what it holds can be done without
    taken = body.Append(part.body());
  }
  if (!taken) {
    return Refuse(routing::ApiError{503, "Too many request bodies are being read; try again.",
                                    kMemoryCode, 1},
                  kSaturated);
  }
  if (part.end_of_stream() || !duplex()) return Decide();
  if (body.size() < routing::Foresight::kFirstBytes) return;
  auto& slow = pending_->slow_body;
  if (slow == nullptr) slow = std::make_unique<SlowBody>(shared_.deps, shared_.buffered);
  slow->OnPart(body, pending_->kind.api, pending_->head.content_length.value_or(0));
}

void Exchange::DecideByLoad(Look look) {
  if (look == Look::kTooLate) shared_.metrics.body_unseen.Add();
  routing::Prepared prepared = shared_.deps.director.PrepareBodiless(
      pending_->head.request_id, std::move(pending_->head.attributes));
  if (!Place(prepared)) return;
  SendHeadersReply(std::nullopt);
  if (look == Look::kNoBody) return RequestDone();
  state_ = duplex() ? State::kStreaming : State::kUnbuffered;
  pending_.reset();
}

void Exchange::Decide() {
  // The proxy gave an answer of its own meanwhile: there is nothing left to route.
  if (response_.complete()) return RequestDone();
  if (pending_->body->size() == 0) {
    return Refuse(routing::ApiError{400, "The request body is empty.", "invalid_request"});
  }
  state_ = State::kDeciding;
  pending_->slow_body = nullptr;
  auto prepared =
      shared_.deps.director.PrepareIfQuick(pending_->head.request_id, pending_->kind.api,
                                           pending_->body->view(), pending_->head.attributes);
  if (!prepared) return PrepareOnPool();
  OnPrepared(std::move(*prepared));
}

void Exchange::PrepareOnPool() {
  pending_->tokens_wanted = std::make_shared<std::atomic<bool>>(true);
  auto result = std::make_shared<std::optional<Result<routing::Prepared>>>();
  const auto work = [director = &shared_.deps.director, result, body = pending_->body,
                     api = pending_->kind.api, id = pending_->head.request_id,
                     attributes = pending_->head.attributes, wanted = pending_->tokens_wanted] {
    if (!wanted->load(std::memory_order_relaxed)) return;
    result->emplace(director->Prepare(id, api, body->view(), attributes));
  };
  const auto done = [this, result] {
    if (*result) OnPrepared(std::move(**result));
  };
  sink_.StartTimer(shared_.options.decision_timeout);
  if (!sink_.Offload(work, done)) {
    shared_.metrics.decision_pool_full.Add();
    PrepareByLoad("tokenization queue full");
  }
}

void Exchange::OnDecisionTimeout() {
  if (ended_ || state_ != State::kDeciding) return;
  shared_.metrics.decision_timeouts.Add();
  PrepareByLoad("tokenization took too long");
}

void Exchange::PrepareByLoad(const char* note) {
  WP_LOG(kWarn, "extproc", "request routed by load", {"x-request-id", pending_->head.request_id},
         {"reason", note});
  OnPrepared(shared_.deps.director.PrepareByLoad(pending_->head.request_id, pending_->kind.api,
                                                 pending_->body->view(), note,
                                                 std::move(pending_->head.attributes)));
}

void Exchange::StopWaitingForTokens() {
  if (pending_ == nullptr || pending_->tokens_wanted == nullptr) return;
  sink_.StopTimer();
  pending_->tokens_wanted->store(false, std::memory_order_relaxed);
  pending_->tokens_wanted = nullptr;
}

void Exchange::OnPrepared(Result<routing::Prepared> prepared) {
  if (ended_ || state_ != State::kDeciding) return;  // too late
  StopWaitingForTokens();
  if (response_.complete()) return RequestDone();
  if (!prepared) return Refuse(prepared.error());
  if (!Place(*prepared)) return;
  const bool rewritten =
      !prepared->target_model.empty() && prepared->target_model != prepared->view.model;
  if (rewritten) {
    // The pool may still be reading the one that came.
    pending_->body = std::make_shared<BodyBuffer>(
        shared_.buffered,
        prompt::ReplaceModel(pending_->body->view(), prepared->view, prepared->target_model));
  }
  if (!duplex()) return SendBufferedReply(rewritten);
  SendHeadersReply(rewritten || pending_->head.content_length
                       ? std::optional(pending_->body->size())
                       : std::nullopt);
  state_ = State::kEchoing;
  Pump();
}

bool Exchange::Place(routing::Prepared& prepared) {
  auto outcome = shared_.deps.director.Decide(prepared);
  if (!outcome) {
    Refuse(outcome.error());
    return false;
  }
  outcome_.emplace(std::move(*outcome));
  return true;
}

// ---- answering

std::string_view Exchange::Changes(std::string_view destination,
                                   std::optional<size_t> content_length) const {
  thread_local HeaderChanges changes;
  const RequestHead& head = pending_->head;
  changes.Clear();
  changes.Set(kDestinationHeader, destination);
  if (head.own_request_id) changes.Set("x-request-id", head.request_id);
  if (content_length) changes.Set("content-length", std::to_string(*content_length));
  bool control_set = false;
  if (outcome_->pin_rank()) {
    changes.Set("x-data-parallel-rank", std::to_string(outcome_->rank()));
    control_set = true;
  }
  const scheduling::PickEffects& effects = outcome_->effects();
  for (const auto& [name, value] : effects.request_headers) {
    changes.Set(ToLower(name), value);
    control_set = true;  // perhaps
  }
  for (const std::string& name : head.unwanted) changes.Remove(name);
  for (const std::string& name : effects.remove_request_headers) changes.Remove(ToLower(name));
  static const std::string all_control_headers = RemovedHeaders(ControlHeaders());
  if (control_set) {
    for (const std::string_view name : ControlHeaders()) changes.Remove(name);
  } else {
    changes.Append(all_control_headers);
  }
  return changes.bytes();
}

std::string_view Exchange::Metadata(std::string_view destination) const {
  thread_local std::string metadata;
  metadata.clear();
  if (shared_.options.emit_endpoint_scores) {
    const Scores scores = outcome_->scores();
    AppendDestination(metadata, destination, &scores);
  } else {
    AppendDestination(metadata, destination, nullptr);
  }
  return metadata;
}

std::string Exchange::Destination() const {
  const auto& destinations = outcome_->destinations();
  return destinations.size() == 1 ? destinations.front()
                                  : fmt::format("{}", fmt::join(destinations, ","));
}

void Exchange::SendHeadersReply(std::optional<size_t> content_length) {
  const std::string destination = Destination();
  const std::string_view changes = Changes(destination, content_length);
  const std::string_view metadata = Metadata(destination);
  const HeadersReplyFrame frame(changes.size(), metadata.size());
  const std::array<std::string_view, 4> pieces = {frame.head(), changes, frame.middle(), metadata};
  sink_.SendPieces(pieces);
}

void Exchange::SendBufferedReply(bool rewritten) {
  Scratch scratch;
  auto* const reply = scratch.Make<pb::ProcessingResponse>();
  pb::CommonResponse& common = *reply->mutable_request_body()->mutable_response();
  const std::string_view body = pending_->body->view();
  const std::string destination = Destination();
  const std::string_view changes =
      Changes(destination, rewritten ? std::optional(body.size()) : std::nullopt);
  common.mutable_header_mutation()->ParseFromString(std::string(changes));
  common.set_clear_route_cache(true);
  reply->mutable_dynamic_metadata()->ParseFromString(std::string(Metadata(destination)));
  if (rewritten) common.mutable_body_mutation()->mutable_body()->assign(body);
  sink_.Send(Serialize(*reply));
  if (pending_->trailers) SendTrailersReply();
  RequestDone();
}

void Exchange::SendEmptyReply(const RequestMessage& message) {
  const bool headers = message.kind() == Kind::kRequestHeaders;
  sink_.Send(EmptyReply(headers ? Phase::kRequestHeaders : Phase::kRequestBody));
  if (sink_.queued_bytes() > kSendAhead) sink_.SetReading(false);
}

// Gives the body back as far as the peer takes it.
void Exchange::Pump() {
  if (std::exchange(pumping_, true)) return;
  const std::string_view body = pending_->body->view();
  while (pending_->echoed < body.size() && sink_.queued_bytes() < kSendAhead) {
    const std::string_view piece = body.substr(pending_->echoed, kMaxChunk);
    pending_->echoed += piece.size();
    const bool last = pending_->echoed == body.size() && !pending_->trailers;
    SendStreamed(sink_, Direction::kRequest, piece, last);
  }
  pumping_ = false;
  if (pending_->echoed < body.size()) return;
  if (pending_->trailers) SendTrailersReply();
  RequestDone();
}

void Exchange::RequestDone() {
  state_ = State::kDone;
  // What the peer has not taken counts on, where OnDrain will tell when it has.
  if (pending_ != nullptr && pending_->body != nullptr && sink_.queued_bytes() > kSendAhead / 2) {
    unsent_ = sink_.queued_bytes();
    shared_.buffered.Force(unsent_);
  }
  pending_.reset();
  if (skip_answer_) {
    outcome_->Finish(200);
    outcome_.reset();
    return End(GrpcStatus::kOk);
  }
  if (BypassesAnswer()) {
    outcome_->AnswerUnseen();
    outcome_.reset();
    return End(GrpcStatus::kOk);
  }
  EndIfHalfClosed();
}

// An answer that has begun goes on: what of it is already here would be lost.
bool Exchange::BypassesAnswer() const {
  return shared_.options.bypass_responses && !shared_.options.conformance_headers && outcome_ &&
         !response_.started() && outcome_->effects().response_headers.empty();
}

// ---- ending

void Exchange::Refuse(const Error& error) {
  Refuse(routing::FromRouting(error), DroppedReason(error.code));
}

void Exchange::Refuse(const routing::ApiError& error, std::string_view dropped_reason) {
  const ExtProcMetrics& metrics = shared_.metrics;
  (error.status == 400         ? metrics.refused_invalid
   : error.status == 404       ? metrics.refused_model
   : error.status == 413       ? metrics.refused_too_large
   : error.status == 429       ? metrics.refused_saturated
   : error.code == kMemoryCode ? metrics.refused_memory
   : error.status == 503       ? metrics.refused_no_endpoints
                               : metrics.refused_other)
      .Add();
  StopWaitingForTokens();
  Scratch scratch;
  auto* const reply = scratch.Make<pb::ProcessingResponse>();
  pb::ImmediateResponse& answer = *reply->mutable_immediate_response();
  answer.mutable_status()->set_code(error.status);
  for (const auto& [name, value] : routing::ErrorHeaders(error)) {
    SetHeader(*answer.mutable_headers(), ToLower(name), value);
  }
  SetHeader(*answer.mutable_headers(), "x-request-id", pending_->head.request_id);
  if (!dropped_reason.empty()) {
    SetHeader(*answer.mutable_headers(), "x-llm-d-request-dropped-reason", dropped_reason);
  }
  answer.set_body(routing::ErrorBody(error));
  answer.set_details(error.code);
  sink_.Send(Serialize(*reply));
  sink_.MarkComplete();
  pending_.reset();
  outcome_.reset();
  End(GrpcStatus::kOk);
}

void Exchange::Violation(GrpcStatus status, const char* what) {
  shared_.metrics.protocol_errors.Add();
  WP_LOG(kVerbose, "extproc", "stream ended: protocol error", {"reason", what});
  End(status, what);
}

void Exchange::End(GrpcStatus status, std::string_view message) {
  if (ended_) return;
  ended_ = true;
  Close();
  sink_.Finish(status, message);
}

void Exchange::ReturnUnsent() {
  shared_.buffered.Return(std::exchange(unsent_, 0));
}

void Exchange::Close() {
  StopWaitingForTokens();
  ReturnUnsent();
  pending_.reset();
  if (!outcome_) return;
  // With no body of the answer to be seen, the end of the stream is the end of the answer.
  if (response_.unseen()) {
    outcome_->Finish(response_.status());
  } else if (response_mode_ == pb::NONE && state_ == State::kDone && !response_.started()) {
    outcome_->AnswerUnseen();
  } else {
    outcome_->Abort();
    shared_.metrics.aborts.Add();
  }
  outcome_.reset();
}

void Exchange::EndIfHalfClosed() {
  if (!half_closed_ || ended_) return;
  if (state_ == State::kDeciding || state_ == State::kEchoing) return;
  End(state_ == State::kBuffering ? GrpcStatus::kCancelled : GrpcStatus::kOk);
}

}  // namespace warmpath::extproc
